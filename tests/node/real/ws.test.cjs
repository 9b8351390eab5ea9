'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const { play } = require('../support/index.cjs');

test('ws: connections stay with their worker, and the end of one worker costs its own only', async () => {
  const run = await play({
    async primary({ cluster, report, happens, until }) {
      const { WebSocket } = require('ws');
      const workers = [1, 2, 3].map(() => cluster.fork());
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));

      // Each client asks who serves it and keeps the connection, until every worker has two at least.
      const clients = [];
      const servedBy = (pid) => clients.filter((client) => client.pid === pid);
      const open = async () => {
        const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
        const [hello] = await happens(socket, 'message');
        const client = { socket, pid: JSON.parse(hello).pid };
        client.closed = new Promise((resolve) => socket.once('close', resolve));
        clients.push(client);
        return client;
      };
      await until(async () => {
        await open();
        return workers.every((worker) => servedBy(worker.process.pid).length >= 2);
      }, 'two connections with each worker');

      const echo = async ({ socket }, data) => {
        socket.send(data);
        const [answer, isBinary] = await happens(socket, 'message');
        return [answer.equals(Buffer.from(data)), isBinary];
      };
      const text = 'word '.repeat(50_000);
      const binary = require('node:crypto').randomBytes(1 << 20);
      const echoed = (all, data) => Promise.all(all.map((client) => echo(client, data)));
      report('text', (await echoed(clients, text)).every(([same, isBinary]) => same && !isBinary));
      report('binary', (await echoed(clients, binary)).every(([same, isBinary]) => same && isBinary));

      const [victim, ...others] = workers;
      const gone = happens(victim, 'exit');
      victim.process.kill('SIGKILL');
      report('victim', ...await gone);
      report('codes', ...await Promise.all(servedBy(victim.process.pid).map(({ closed }) => closed)));
      const left = clients.filter(({ pid }) => pid !== victim.process.pid);
      report('left', (await echoed(left, 'still here')).every(([same]) => same));
      for (let i = 0; i < 4; i++) left.push(await open());
      report('newcomers', left.slice(-4).every(({ pid }) => others.some((worker) => worker.process.pid === pid)));

      // A server that closes says so to its clients; the worker has nothing left then and ends.
      for (const worker of others) worker.send('close');
      report('goodbyes', [...new Set(await Promise.all(left.map(({ closed }) => closed)))]);
      const exits = others.map((worker) => happens(worker, 'exit'));
      for (const worker of others) worker.disconnect();
      report('exits', ...await Promise.all(exits));
    },
    worker() {
      const { WebSocketServer } = require('ws');
      const server = new WebSocketServer({ port: 0, host: '127.0.0.1', maxPayload: 4 << 20 });
      server.on('connection', (socket) => {
        socket.on('message', (data, binary) => socket.send(data, { binary }));
        socket.send(JSON.stringify({ pid: process.pid }));
      });
      process.on('message', () => {
        for (const socket of server.clients) socket.close(1001, 'leaving');
      });
    },
  });

  assert.equal(run.one('text'), true);
  assert.equal(run.one('binary'), true);
  assert.deepEqual(run.all('victim'), [[null, 'SIGKILL']]);
  assert.ok(run.all('codes')[0].length >= 2);
  assert.deepEqual([...new Set(run.all('codes')[0])], [1006]);
  assert.equal(run.one('left'), true);
  assert.equal(run.one('newcomers'), true);
  assert.deepEqual(run.one('goodbyes'), [1001]);
  assert.deepEqual(run.all('exits')[0], [[0, null], [0, null]]);
});
