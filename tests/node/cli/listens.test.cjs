'use strict';
// A signal at the moment in which a server begins to listen: the script's handler finds it as under plain node.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const HANDLER = `
  process.on('SIGTERM', () => {
    console.log('listening', server.listening, JSON.stringify(server.address()));
    server.close((error) => process.exit(error ? 3 : 0));
  });`;

test('a signal right behind listen', ours, async () => {
  const text = `const server = require('node:http').createServer().listen(0, '127.0.0.1'); ${HANDLER}
    process.kill(process.pid, 'SIGTERM');`;
  const run = await cli({ args: ['-i', '1', '--respawn', 'never', 'app.js'], files: { 'app.js': text } });
  assert.match(run.stdout, /listening true \{"address":"127\.0\.0\.1","family":"IPv4","port":[0-9]+\}/);
  assert.equal(run.code, 0);
});

for (const [what, listener] of [['before', 'prependListener'], ['after', 'on']]) {
  for (const [where, address] of [['127.0.0.1:0', "0, '127.0.0.1'"], ['a socket file', "'s.sock'"]]) {
    test(`a server that listens on ${where} right ${what} the worker hears of the stop`, ours, async () => {
      const text = `require('./server.js');
        const server = require('node:http').createServer(); ${HANDLER}
        process.${listener}('internalMessage', ({ cmd }) => { if (cmd === 'NODE_CLUSTER_RS_STOP') server.listen(${address}); });`;
      const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': text } }, async (started) => {
        await started.port();
        started.kill();
      });
      assert.match(run.stdout, /listening true /);
      assert.equal(run.stderr, '');
      assert.equal(run.code, 0);
    });
  }
}
