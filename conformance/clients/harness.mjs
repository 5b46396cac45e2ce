// What the client scripts share: steps that print a line and stop the script
// with a clear message when something is not as it should be.

/** Fails the step unless ok. */
export function check(ok, message) {
  if (!ok) throw new Error(message);
}

/** Fails the step unless got is want, compared as JSON. */
export function same(got, want, what) {
  const [g, w] = [JSON.stringify(got), JSON.stringify(want)];
  check(g === w, `${what}: got ${g}, want ${w}`);
}

/** Fails the step unless the promise is rejected with this JSON-RPC code. */
export async function rejects(promise, code, what) {
  let result;
  try {
    result = await promise;
  } catch (error) {
    check(error.code === code, `${what}: got error ${error.code} ${error.message}, want ${code}`);
    return error;
  }
  throw new Error(`${what}: got ${JSON.stringify(result)}, want error ${code}`);
}

/** The text of a tool result. */
export function textOf(result) {
  return (result?.content ?? []).map((c) => c.text).join('\n');
}

/** Answers every question of the fixture tools. */
export function answerTo(message) {
  const answers = {
    'Delete some.txt?': { confirm: true },
    'Go on?': { confirm: true },
    'What is the first name?': { name: 'Ada' },
    'What is the second name?': { name: 'Grace' },
    'What is your name?': { name: 'Alan' },
  };
  check(message in answers, `unexpected question: ${message}`);
  return { action: 'accept', content: answers[message] };
}

/** The result of a sampling request. */
export const sampled = { role: 'assistant', model: 'none', content: { type: 'text', text: 'hello' } };

/**
 * What becomes of every fixture tool called as a task: a text, or with
 * isError, a failed tool, or with error, the JSON-RPC error.
 */
export const tools = {
  greet: { arguments: { name: 'Ada' }, noTask: true, text: 'Hello, Ada!' },
  slow_compute: { arguments: { seconds: 1, label: 'it' }, text: 'Computed it in 1 s.' },
  failing_job: { arguments: {}, isError: true, text: 'The job failed.' },
  protocol_error_job: { arguments: {}, error: { code: -32603, message: 'The job broke the server.' } },
  confirm_delete: { arguments: { filename: 'some.txt' }, asks: 1, text: 'Deleted some.txt.' },
  multi_input: { arguments: {}, asks: 2, text: 'Got Ada and Grace.' },
  test_tool_with_task: { arguments: {}, asks: 1, text: 'Hello, Alan!' },
  test_missing_capability: { arguments: {}, asks: 1, text: 'The model has answered.' },
  test_streaming_elicitation: { arguments: {}, asks: 1, text: 'The answer is accept.' },
  test_logging_tool: { arguments: {}, text: 'Logged.' },
  test_trigger_tool_change: { arguments: {}, text: /^(Added|Removed) test_dynamic_tool\.$/ },
};

/** Fails the step unless the listed tools are those of the table. */
export function checkTools(listed) {
  const names = listed.map((t) => t.name).filter((n) => n !== 'test_dynamic_tool');
  same(names.sort(), Object.keys(tools).sort(), 'tools');
}

/** Fails the step unless the result has the text of the table. */
export function checkText(tool, result) {
  const [got, want] = [textOf(result), tools[tool].text];
  check(want instanceof RegExp ? want.test(got) : got === want, `${tool}: got ${got}, want ${want}`);
}

/** Runs the steps one after the other and ends the process. */
export async function run(steps) {
  const url = process.argv[2];
  check(url, 'usage: node SCRIPT URL');
  const state = {};
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step(new URL(url), state);
      console.log(`ok: ${name}`);
    } catch (error) {
      console.log(`FAILED: ${name}: ${error.stack ?? error}`);
      process.exit(1);
    }
  }
  process.exit(0);
}
