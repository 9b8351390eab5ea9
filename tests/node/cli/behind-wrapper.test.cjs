'use strict';
// A server behind a wrapper ends as one without: by its own handler, once, or when its last request is finished.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours } = require('../support/index.cjs');
const { begin, cli } = require('./fixtures/run.cjs');

// As they all do: the child's end is theirs.
const RUN = (words) => `
  const child = require('node:child_process').spawn(${words}, { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(signal ? 143 : code));`;
const WRAPPERS = {
  'npm.cjs': RUN("'sh', ['-c', process.argv[2] + '; exit $?']"),
  'node_modules/cross-env/cli.cjs': RUN("'node', ['app.js']"),
};
const HANDLER = `process.on('SIGTERM', () => {
  console.log('begins');
  setTimeout(() => server.close((error) => { console.log(error ? 'fails' : 'done'); process.exit(error ? 3 : 0); }), 300);
});`;
// A server, and something that keeps the process running.
const HEAD = `
  const http = require('node:http');
  const { createServer } = http;
  let server;
  http.createServer = (...args) => server = createServer(...args);
  require('./server.js');
  setInterval(() => {}, 1000);`;

const count = (run, text) => run.stdout.split('\n').filter((line) => line === `[0] ${text}`).length;

for (const wrapper of Object.keys(WRAPPERS)) {
  for (const isForAll of wrapper === 'npm.cjs' ? [false] : [false, true]) {
    for (const [what, own] of [['with a handler', HANDLER], ['without one', '']]) {
      test(`${wrapper}, a signal ${isForAll ? 'to the group' : 'to the primary'}, ${what}`, ours, async () => {
        const files = { ...WRAPPERS, 'app.js': HEAD + own };
        const run = await cli({ args: ['-i', '1', wrapper, '--', 'node app.js'], files }, async (started) => {
          const [answer] = await begin(started, await started.port());
          started.kill('SIGTERM', isForAll ? -started.pid : started.pid);
          await started.wait(/stopping 1 worker/);
          if (own) await started.wait(/begins/);
          else await new Promise((go) => { setTimeout(go, 700); });
          started.write('release', '');
          assert.match((await answer).body, /^held by/);
        });
        assert.equal(count(run, 'fails'), 0);
        // What the wrapper relays of its own signal is its affair.
        if (!isForAll) assert.equal(count(run, 'begins'), own ? 1 : 0);
        // The shell names the signal.
        assert.equal(run.stderr.replace('[0] Terminated\n', ''), '');
        assert.equal(run.code, 0);
      });
    }
  }
}

test('a second signal reaches the server behind the wrapper', ours, async () => {
  const text = `${HEAD} let count = 0;
    process.on('SIGTERM', () => { console.log('begins'); if (++count === 2) process.exit(5); });`;
  const wrapper = 'node_modules/cross-env/cli.cjs';
  const args = ['-i', '1', '--stop-deadline', '20', wrapper];
  const run = await cli({ args, files: { ...WRAPPERS, 'app.js': text } }, async (started) => {
    await started.port();
    started.kill();
    await started.wait(/begins/);
    await new Promise((go) => { setTimeout(go, 800); });
    started.kill();
  });
  assert.equal(count(run, 'begins'), 2);
  assert.match(run.said()[0], /is hurried: SIGTERM$/);
  assert.equal(run.code, 5);
});
