'use strict';
// In the foreground of a terminal: Ctrl-C, the end of the terminal, colours.

const test = require('node:test');
const assert = require('node:assert/strict');
const { happens } = require('../support/index.cjs');
const { begin, cli, onTerminal, terminal } = require('./fixtures/run.cjs');

test('Ctrl-C in a terminal lets requests finish', terminal, async () => {
  const run = await cli({
    args: ['-i', '2', 'server.js'], stdio: ['pipe', 'pipe', 'pipe'], command: onTerminal,
  }, async (started) => {
    const port = await started.port();
    const [answer] = await begin(started, port);
    started.process.stdin.write('\x03');
    await started.wait(/SIGINT: stopping 2 workers/);
    started.write('release', '');
    assert.match((await answer).body, /^held by/);
    await happens(started.process, 'exit');
  });
  assert.equal(run.code, 0);
});

test('a terminal that is closed is a stop', terminal, async () => {
  await cli({ args: ['-i', '2', 'server.js'], command: onTerminal }, async (started) => {
    const [answer] = await begin(started, await started.port());
    started.kill('SIGKILL');
    started.write('release', '');
    assert.match((await answer).body, /^held by/);
  });
});

test('colours on a terminal, unless NO_COLOR says no', terminal, async () => {
  for (const [env, coloured] of [
    [{}, true], [{ NO_COLOR: '1' }, false], [{ NO_COLOR: '' }, true], [{ TERM: 'dumb' }, false],
  ]) {
    const run = await cli({
      args: ['-i', '1', 'hello.js'], files: { 'hello.js': "console.log('hello');" }, env, command: onTerminal,
    });
    assert.match(run.stdout, coloured ? /\x1b\[36m\[0\]\x1b\[0m hello\r\n/ : /(^|\n)\[0\] hello\r\n/);
  }
});
