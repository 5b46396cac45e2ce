// The official client of 2025-11-25, @modelcontextprotocol/sdk, against the
// fixture tools: node client2025.mjs URL
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  CallToolResultSchema,
  CreateMessageRequestSchema,
  ElicitRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { answerTo, check, checkText, checkTools, rejects, run, same, sampled, textOf, tools } from './harness.mjs';

const RELATED_TASK = 'io.modelcontextprotocol/related-task';

async function connect(url, capabilities = { elicitation: {}, sampling: {} }) {
  const client = new Client({ name: 'client2025', version: '1.0.0' }, { capabilities });
  // The tasks whose requests came, in order, as the requests themselves say.
  client.askedFor = [];
  const answer = (reply) => (request) => {
    client.askedFor.push(request.params._meta?.[RELATED_TASK]?.taskId);
    return reply(request);
  };
  if (capabilities.elicitation)
    client.setRequestHandler(ElicitRequestSchema, answer((request) => answerTo(request.params.message)));
  if (capabilities.sampling) client.setRequestHandler(CreateMessageRequestSchema, answer(() => sampled));
  await client.connect(new StreamableHTTPClientTransport(url));
  return client;
}

/** Calls a tool as a task and collects the messages of its stream. */
async function stream(client, name, args, options = { task: { ttl: 600_000 } }) {
  const messages = [];
  for await (const m of client.experimental.tasks.callToolStream({ name, arguments: args }, CallToolResultSchema, options))
    messages.push(m);
  return messages;
}

async function createTask(client, name, args) {
  for await (const m of client.experimental.tasks.callToolStream({ name, arguments: args }, CallToolResultSchema, {
    task: { ttl: 600_000 },
  })) {
    check(m.type === 'taskCreated', `got ${JSON.stringify(m)}, want taskCreated`);
    return m.task.taskId;
  }
}

// whileBusy makes a request again for as long as the server says that this helps:
// a busy machine may take longer for one than a request does.
async function whileBusy(request) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!error.message.includes('Nothing is lost: try again')) throw error;
    }
  }
}

const steps = {
  'connects and lists tools': async (url, s) => {
    s.client = await connect(url);
    same(
      s.client.getServerCapabilities().tasks,
      { list: {}, cancel: {}, requests: { tools: { call: {} } } },
      'capabilities.tasks',
    );
    checkTools((await s.client.listTools()).tools);
  },
};

for (const [name, want] of Object.entries(tools)) {
  steps[`callToolStream ${name}`] = async (url, { client }) => {
    client.askedFor = [];
    const messages = await stream(client, name, want.arguments, want.noTask ? {} : undefined);
    const last = messages.at(-1);
    if (want.noTask) {
      same(messages.map((m) => m.type), ['result'], 'messages');
      checkText(name, last.result);
      return;
    }
    check(messages[0].type === 'taskCreated', `got ${JSON.stringify(messages[0])} first, want taskCreated`);
    const { taskId, status, ttl, pollInterval, createdAt, lastUpdatedAt } = messages[0].task;
    same(status, 'working', 'status at creation');
    same(ttl, 600_000, 'ttl');
    check(pollInterval > 0 && createdAt && lastUpdatedAt, `incomplete task: ${JSON.stringify(messages[0].task)}`);
    check(messages.slice(1, -1).every((m) => m.type === 'taskStatus' && m.task.taskId === taskId), JSON.stringify(messages));
    same(client.askedFor, Array(want.asks ?? 0).fill(taskId), 'related tasks of the requests');

    const { tasks } = client.experimental;
    const after = (await tasks.getTask(taskId)).status;
    if (want.error) {
      same(after, 'failed', 'status');
      check(last.type === 'error', JSON.stringify(last));
      const error = await rejects(tasks.getTaskResult(taskId, CallToolResultSchema), want.error.code, 'tasks/result');
      check(error.message.includes(want.error.message), error.message);
      return;
    }
    const result = await tasks.getTaskResult(taskId, CallToolResultSchema);
    checkText(name, result);
    same(result._meta?.[RELATED_TASK], { taskId }, 'related task of the result');
    if (want.isError) {
      same([after, last.type, result.isError], ['failed', 'error', true], 'status, last message, isError');
      return;
    }
    same([after, last.type], ['completed', 'result'], 'status, last message');
    checkText(name, last.result);
  };
}

Object.assign(steps, {
  'a required task cannot be a plain call, a forbidden one no task': async (url, { client }) => {
    // The client itself refuses to call plainly what it knows to be a task.
    const plain = client.request({ method: 'tools/call', params: { name: 'failing_job', arguments: {} } }, CallToolResultSchema);
    await rejects(plain, -32601, 'failing_job without task');
    const [only] = await stream(client, 'greet', { name: 'Ada' });
    same([only.type, only.error.code], ['error', -32601], 'greet as a task');
  },
  'a plain call of an optional tool is held, and asks': async (url, { client }) => {
    client.askedFor = [];
    const result = await client.callTool({ name: 'confirm_delete', arguments: tools.confirm_delete.arguments });
    checkText('confirm_delete', result);
    same(client.askedFor, [undefined], 'related tasks of the requests');
  },
  'a request the client cannot serve fails the task': async (url) => {
    const client = await connect(url, { elicitation: {} });
    const messages = await stream(client, 'test_missing_capability', {});
    same(messages.at(-1).type, 'error', 'last message');
    await client.close();
  },
  'cancel, and cancel again': async (url, { client }) => {
    const { tasks } = client.experimental;
    const id = await createTask(client, 'slow_compute', { seconds: 60, label: 'never' });
    same((await tasks.cancelTask(id)).status, 'cancelled', 'status in the reply');
    same((await tasks.getTask(id)).status, 'cancelled', 'status');
    await rejects(tasks.cancelTask(id), -32602, 'tasks/cancel of a cancelled task');
    await rejects(tasks.getTaskResult(id, CallToolResultSchema), -32603, 'tasks/result of a cancelled task');
  },
  'cancel of a completed task': async (url, { client }) => {
    const messages = await stream(client, 'slow_compute', { seconds: 0, label: 'done' });
    await rejects(client.experimental.tasks.cancelTask(messages[0].task.taskId), -32602, 'tasks/cancel');
  },
  'an unknown task': async (url, { client }) => {
    const { tasks } = client.experimental;
    await rejects(tasks.getTask('nobody'), -32602, 'tasks/get');
    await rejects(tasks.cancelTask('nobody'), -32602, 'tasks/cancel');
    await rejects(tasks.getTaskResult('nobody', CallToolResultSchema), -32602, 'tasks/result');
  },
  'list with cursor': async (url, s) => {
    const { tasks } = s.client.experimental;
    s.created = [];
    // More than a page has, and not all at once: a busy machine may take longer
    // for so many than a request does.
    while (s.created.length < 60) {
      const some = Array.from({ length: 6 }, (_, i) => `${s.created.length + i}`);
      s.created.push(...(await Promise.all(some.map((label) => createTask(s.client, 'slow_compute', { seconds: 0, label })))));
    }
    const listed = new Set();
    let pages;
    // Tasks too new for Temporal's list are on the first page, whatever its
    // size: there may be one page at first, but not for long.
    for (let tries = 0; tries < 100 && !(pages > 1); tries++) {
      listed.clear();
      pages = 0;
      let cursor;
      do {
        const page = await whileBusy(() => tasks.listTasks(cursor));
        page.tasks.forEach((t) => listed.add(t.taskId));
        cursor = page.nextCursor;
        pages++;
        check(pages < 100, 'the list does not end');
      } while (cursor);
    }
    check(pages > 1, 'all tasks were on one page');
    same(s.created.filter((id) => !listed.has(id)), [], 'tasks missing from the list');
    await rejects(tasks.listTasks('nonsense'), -32602, 'tasks/list with a bad cursor');
  },
  'a new session reads, answers and cancels the tasks of the last one': async (url, s) => {
    const waiting = await createTask(s.client, 'confirm_delete', tools.confirm_delete.arguments);
    const running = await createTask(s.client, 'slow_compute', { seconds: 60, label: 'never' });
    await s.client.transport.terminateSession();
    await s.client.close();

    const client = await connect(url);
    const { tasks } = client.experimental;
    same((await tasks.getTask(s.created[0])).taskId, s.created[0], 'tasks/get');
    same(textOf(await tasks.getTaskResult(s.created[7], CallToolResultSchema)), 'Computed 7 in 0 s.', 'tasks/result');
    const listed = (await tasks.listTasks()).tasks.map((t) => t.taskId);
    check(listed.includes(waiting) && listed.includes(running), 'the list lacks the tasks of the last session');
    checkText('confirm_delete', await tasks.getTaskResult(waiting, CallToolResultSchema));
    same(client.askedFor, [waiting], 'related tasks of the requests');
    same((await tasks.cancelTask(running)).status, 'cancelled', 'status in the reply');
    await client.close();
  },
});

await run(steps);
