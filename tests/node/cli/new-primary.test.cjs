'use strict';
// The command itself is replaced by another one, on a socket that somebody else holds: whoever connects in between waits for the next.

const test = require('node:test');
const assert = require('node:assert/strict');
const net = require('node:net');
const { childrenOf, ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

// What a service manager does: it has the socket as descriptor 3, and starts the command on it again whenever that ends well.
const HOLDER = 'until [ -e over ]; do "$@" || exit; done';
const holder = (line) => ['bash', '-c', HOLDER, 'holder', ...line];

const SERVER = `
  require('node:http').createServer((request, response) => response.end(String(process.ppid))).listen({ fd: 3 });`;

/** A socket that listens, and on which nobody accepts before this process closes its own descriptor of it. */
async function listener() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return server;
}

/** One request after the other from three clients; each is answered. */
function load(port) {
  let going = true;
  const seen = new Map();
  const failures = [];
  const client = async () => {
    while (going) {
      try {
        const { body } = await request(port);
        seen.set(body, (seen.get(body) ?? 0) + 1);
      } catch (error) {
        failures.push(error.code ?? error.message);
      }
    }
  };
  const all = Promise.all([client(), client(), client()]);
  return { seen, async end() { going = false; await all; return failures; } };
}

for (const policy of ['rr', 'none']) {
  test(`${policy}: a new command on the same descriptor, and nobody is refused or lost`, ours, async () => {
    const server = await listener();
    const { port } = server.address();
    const run = await cli({
      args: ['-i', '2', '--policy', policy, 'server.js'], files: { 'server.js': SERVER }, command: holder,
      stdio: ['ignore', 'pipe', 'pipe', server._handle.fd],
    }, async (started) => {
      await new Promise((resolve) => server.close(resolve));
      const clients = load(port);
      const pids = [];
      for (let round = 1; round <= 3; round++) {
        const told = await started.wait(/cluster-rs: version \S+, pid ([0-9]+):/, { count: round });
        const pid = told[round - 1][1];
        pids.push(Number(pid));
        await until(() => clients.seen.get(pid) >= 20, `answers by command ${round}`);
        if (round === 3) break;
        // Once to everybody, as systemd does with KillMode=control-group.
        const others = round === 2 ? childrenOf(Number(pid)) : [];
        for (const one of [...others, Number(pid)]) started.kill('SIGTERM', one);
      }
      assert.deepEqual(await clients.end(), []);
      assert.equal(new Set(pids).size, 3);
      started.write('over', '');
      started.kill('SIGTERM', pids[2]);
    });
    assert.equal(run.code, 0);
    assert.equal(run.stderr, '');
  });
}
