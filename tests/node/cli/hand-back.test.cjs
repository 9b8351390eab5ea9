'use strict';
// Clients that keep their connections while the command replaces its workers: nobody closes an idle one, whatever the script does when
// it is asked to leave.

const test = require('node:test');
const assert = require('node:assert/strict');
const http = require('node:http');
const { ours, request } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const CLIENTS = 12;

const SCRIPTS = {
  'has no handler': '',
  'closes its server at SIGTERM': `process.on('SIGTERM', () => server.close(() => process.exit(0)));`,
  'closes it a moment later': `process.on('SIGTERM', () => setTimeout(() => server.close(() => process.exit(0)), 50));`,
};

for (const [what, handler] of Object.entries(SCRIPTS)) {
  test(`the script ${what}`, ours, async () => {
    const run = await cli({ args: ['-i', '2', 'app.js'], files: {
      'app.js': `const server = require('node:http').createServer((request, response) => response.end(String(process.pid)));
        server.keepAliveTimeout = 60_000;
        ${handler}
        server.listen(0, '127.0.0.1');`,
    } }, async (started) => {
      const port = await started.port();
      const agents = Array.from({ length: CLIENTS }, () => new http.Agent({ keepAlive: true, maxSockets: 1 }));
      const sockets = new Set();
      const ask = (agent) => new Promise((resolve, reject) => {
        const sent = http.get({ port, host: '127.0.0.1', agent }, (response) => {
          let body = '';
          response.on('data', (data) => { body += data; }).on('end', () => resolve({ body, close: response.headers.connection === 'close' }));
        });
        sent.on('socket', (socket) => sockets.add(socket)).on('error', reject);
      });
      const askAll = () => Promise.all(agents.map(ask));
      const before = new Set((await askAll()).map(({ body }) => body));
      started.kill('SIGHUP');
      let isOver = false;
      const done = started.wait(/reload: done/).then(() => { isOver = true; });
      while (!isOver) assert.ok((await askAll()).every(({ close }) => !close));
      await done;
      // Until the old ones have left.
      for (let answers = []; answers.length === 0 || answers.some(({ body }) => before.has(body));) {
        answers = await askAll();
        assert.ok(answers.every(({ close }) => !close));
      }
      assert.equal(sockets.size, CLIENTS, 'no connection was closed');
      agents.forEach((agent) => agent.destroy());
      assert.equal((await request(port)).status, 200);
      started.kill();
    });
    assert.equal(run.code, 0);
    assert.equal(run.stderr, '');
  });
}
