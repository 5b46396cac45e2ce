// What Longhaul is compared with: the tasks of the official TypeScript SDK,
// which are kept in memory. It says where its endpoint is and ends when its
// standard input does. HTTP is the SDK's own Express application, as in all of its
// examples; with --plain it is Node's alone.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { InMemoryTaskMessageQueue, InMemoryTaskStore } from '@modelcontextprotocol/sdk/experimental/tasks/stores/in-memory.js';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
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

/** Parses the body and checks nothing, which is a third quicker. */
function plain(request, response) {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (chunk) => (body += chunk));
  request.on('end', () => transport.handleRequest(request, response, JSON.parse(body)));
}
const app = createMcpExpressApp();
app.all('/mcp', (request, response) => transport.handleRequest(request, response, request.body));

const http = createServer(process.argv.includes('--plain') ? plain : app);
http.listen(0, '127.0.0.1', () => console.log(`MCP endpoint http://127.0.0.1:${http.address().port}/mcp\nready`));
process.stdin.on('end', () => process.exit()).resume();
