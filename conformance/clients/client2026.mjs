// The official client of 2026-07-28, @modelcontextprotocol/client with
// @modelcontextprotocol/ext-tasks, against the fixture tools:
// node client2026.mjs URL
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { createTaskSessionFromClient, resultFromTaskOutcome } from '@modelcontextprotocol/ext-tasks/client';
import { answerTo, check, checkText, checkTools, rejects, run, same, sampled, tools } from './harness.mjs';

const clientInfo = { name: 'client2026', version: '1.0.0' };
const protocolVersion = '2026-07-28';

/**
 * A way around the client's own codecs, which do not know the results of the
 * extension: requests with ids of their own, over the client's transport.
 */
function rawDispatch(transport) {
  const waiting = new Map();
  const { onmessage } = transport;
  transport.onmessage = (message, extra) => {
    const resolve = waiting.get(message.id);
    if (!resolve || message.method) return onmessage?.call(transport, message, extra);
    waiting.delete(message.id);
    resolve(message.error ? { kind: 'error', error: message.error } : { kind: 'result', result: message.result });
  };
  let last = 0;
  return async (request, options) => {
    const id = `raw-${++last}`;
    const response = new Promise((resolve) => waiting.set(id, resolve));
    await transport.send({ ...request, jsonrpc: '2.0', id }, { requestSignal: options?.signal });
    return response;
  };
}

/** Opens a session, with a list of what was asked in it. */
async function connect(url, clientCapabilities = { elicitation: {}, sampling: {} }) {
  const client = new Client(clientInfo, {
    capabilities: clientCapabilities,
    versionNegotiation: { mode: { pin: protocolVersion } },
  });
  const transport = new StreamableHTTPClientTransport(url);
  await client.connect(transport);
  const asked = [];
  const session = createTaskSessionFromClient(client, {
    endpointId: 'longhaul',
    rawDispatch: rawDispatch(transport),
    v2RequestFraming: { protocolVersion, clientInfo, clientCapabilities },
    onInputRequest: (request, context) => {
      asked.push(context.scope);
      return request.kind === 'sampling' ? sampled : answerTo(request.params.message);
    },
    onError: (error) => console.log(`client: ${error}`),
  });
  return { client, session, asked };
}

const steps = {
  'connects and lists tools': async (url, s) => {
    Object.assign(s, await connect(url));
    same(s.client.getServerCapabilities().extensions, { 'io.modelcontextprotocol/tasks': {} }, 'extensions');
    checkTools((await s.client.listTools()).tools);
  },
};

for (const [name, want] of Object.entries(tools)) {
  steps[`settle ${name}`] = async (url, { session, asked }) => {
    asked.length = 0;
    const execution = await session.callTool(name, want.arguments);
    // What ends at once need not become a task.
    if (want.noTask) same(execution.kind, 'immediate', 'kind');
    if (want.asks || want.isError || want.error || name === 'slow_compute') same(execution.kind, 'task', 'kind');
    const { outcome } = await execution.settle();
    same(asked.length, want.asks ?? 0, 'questions');
    if (name === 'test_tool_with_task') same(asked, ['request'], 'where it asks');
    else check(asked.every((scope) => scope === 'task'), `asked outside of the task: ${asked}`);
    if (want.error) {
      same(outcome.status, 'failed', 'status');
      same([outcome.error.code, outcome.error.message], [want.error.code, want.error.message], 'error');
      return;
    }
    same(outcome.status, 'completed', 'status');
    const result = resultFromTaskOutcome(outcome);
    same(result.isError ?? false, want.isError ?? false, 'isError');
    checkText(name, result);
  };
}

Object.assign(steps, {
  'a request the client cannot serve fails the task': async (url) => {
    const { session } = await connect(url, { elicitation: {} });
    const { outcome } = await (await session.callTool('test_missing_capability', {})).settle();
    same([outcome.status, outcome.error?.code], ['failed', -32021], 'outcome');
    await session.close();
  },
  'cancel, and cancel again': async (url, { session }) => {
    const execution = await session.callTool('slow_compute', { seconds: 60, label: 'never' });
    const { taskId } = execution.handle;
    await execution.cancel();
    same((await execution.settle()).outcome.status, 'cancelled', 'status');
    await session.task(taskId).cancel(); // acknowledged, and nothing else
    same((await session.task(taskId).snapshot()).status, 'cancelled', 'status');
  },
  'cancel of a completed task': async (url, { session }) => {
    const execution = await session.callTool('slow_compute', { seconds: 0.5, label: 'done' });
    await execution.settle();
    await session.task(execution.handle.taskId).cancel();
    same((await session.task(execution.handle.taskId).snapshot()).status, 'completed', 'status');
  },
  'an unknown task': async (url, { session }) => {
    const nobody = session.task('nobody');
    await rejects(nobody.snapshot(), -32602, 'tasks/get');
    await rejects(nobody.cancel(), -32602, 'tasks/cancel');
    await rejects(nobody.update({}), -32602, 'tasks/update');
  },
  'a new session resumes and cancels the tasks of the last one': async (url, s) => {
    const handoff = async (name, args) => {
      let reference;
      const execution = await s.session.callTool(name, args);
      await execution.handoff((r) => void (reference = r));
      return reference;
    };
    const finishing = await handoff('slow_compute', { seconds: 1, label: 'handed over' });
    const running = await handoff('slow_compute', { seconds: 60, label: 'never' });
    await s.session.close();
    await s.client.close();

    const { session } = await connect(url);
    const { outcome } = await (await session.resumeTask(finishing)).settle();
    same(resultFromTaskOutcome(outcome).content[0].text, 'Computed handed over in 1 s.', 'result');
    const execution = await session.resumeTask(running);
    await execution.cancel();
    same((await execution.settle()).outcome.status, 'cancelled', 'status');
    await session.close();
  },
});

await run(steps);
