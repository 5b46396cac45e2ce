// What Longhaul is compared with: the tasks of the official TypeScript SDK,
// which are kept in memory. It says where its endpoint is and ends when its
// standard input does.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { InMemoryTaskMessageQueue, InMemoryTaskStore } from '@modelcontextprotocol/sdk/experimental/tasks/stores/in-memory.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';

const server = new McpServer(
  { name: 'typescript', version: '1' },
  {
    capabilities: { tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } } },
    taskStore: new InMemoryTaskStore(),
    taskMessageQueue: new InMemoryTaskMessageQueue(),
  },
);

/** Registers a tool that is done at once with a result, or never without one. */
function register(name, result) {
  server.experimental.tasks.registerToolTask(name, {}, {
    async createTask({ taskStore, taskRequestedTtl: ttl }) {
      const task = await taskStore.createTask({ ttl });
      if (result) await taskStore.storeTaskResult(task.taskId, 'completed', result);
      return { task };
    },
    getTask: ({ taskId, taskStore }) => taskStore.getTask(taskId),
    getTaskResult: ({ taskId, taskStore }) => taskStore.getTaskResult(taskId),
  });
}
register('nothing', { content: [{ type: 'text', text: 'done' }] });
register('wait');

// Replies are streams: with enableJsonResponse the transport keeps what belongs
// to a request after it was answered. One transport is one session, which all
// clients share.
const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID });
await server.connect(transport);

// Parsing the body here is a third quicker than leaving it to the transport, and
// than Express.
const http = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (chunk) => (body += chunk));
  request.on('end', () => transport.handleRequest(request, response, JSON.parse(body)));
});
http.listen(0, '127.0.0.1', () => console.log(`MCP endpoint http://127.0.0.1:${http.address().port}/mcp\nready`));
process.stdin.on('end', () => process.exit()).resume();
