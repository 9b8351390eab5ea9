'use strict';
// Bad input: what Node's module says to it is what ours says to it, and nobody falls.

const test = require('node:test');
const assert = require('node:assert/strict');
const { MODULE, ours, play } = require('../support/index.cjs');

// Plays the scenario on Node's module and on the one under test, and gives what each reported.
async function both(scenario) {
  const stock = await play({ ...scenario, module: 'node:cluster' });
  const tested = await play({ ...scenario, module: MODULE });
  const outcomes = (run) => run.reports.map(({ name, values }) => [name, ...values]);
  return [outcomes(stock), outcomes(tested)];
}

test('functions of the primary: the same errors, of the same classes, as Node\'s', async () => {
  const [stock, tested] = await both({
    leaves: true, // A fork that Node refuses half way leaves what Node leaves.
    async primary({ cluster, report, plain, happens }) {
      const exits = [];
      const attempt = (name, call) => {
        try {
          const worker = call();
          report(name, 'fine');
          if (!(worker instanceof cluster.Worker)) return;
          worker.on('error', () => {});
          exits.push(happens(worker, 'exit'));
          worker.process.kill('SIGKILL');
        } catch (error) {
          const { name: type, code, message } = plain(error);
          report(name, type, code ?? null, message.split('\n')[0]);
        }
      };
      for (const bad of [5, 'x', null, {}]) attempt(`disconnect ${String(bad)}`, () => cluster.disconnect(bad));
      const settings = [
        5, 'x', null, undefined, [], () => {},
        { exec: 5 }, { exec: null }, { exec: {} }, { exec: 'a\0b' },
        { args: 'x' }, { args: 5 }, { args: [5, null] }, { args: [Symbol('x')] }, { args: ['a\0b'] },
        { execArgv: 'x' }, { execArgv: 5 }, { execArgv: null }, { execArgv: [5] }, { execArgv: [Symbol('x')] },
        { cwd: 5 }, { cwd: {} }, { cwd: 'a\0b' }, { serialization: 'x' }, { serialization: 5 }, { silent: 'x' },
        { stdio: 5 }, { stdio: {} }, { stdio: [] }, { stdio: ['pipe'] }, { stdio: ['ipc', 'ipc'] },
        { stdio: ['x', 'ipc'] }, { stdio: [null, undefined, 0, 'ipc'] }, { stdio: [{}, 'ipc'] },
        { stdio: 'ipc' }, { stdio: '' }, { stdio: null },
        { uid: 'x' }, { uid: 1.5 }, { gid: 'x' }, { gid: {} }, { windowsHide: 5 }, { windowsHide: true },
      ];
      const normal = { exec: process.argv[1], args: [], execArgv: [], silent: false };
      for (const [i, bad] of settings.entries()) {
        attempt(`setup ${i}`, () => cluster.setupPrimary(bad));
        attempt(`fork after ${i}`, () => cluster.fork());
        cluster.settings = {};
        cluster.setupPrimary(normal);
      }
      const environments = [5, 'xy', null, [], ['a'], () => {}, true, Symbol('x'), { A: Symbol('x') }, { A: 'a\0b' },
        { 'A\0B': 'x' }, { A: {} }, { A: [] }, { A: null }, { NODE_OPTIONS: 5 }, { NODE_OPTIONS: null }];
      for (const [i, bad] of environments.entries()) attempt(`environment ${i}`, () => cluster.fork(bad));
      await Promise.all(exits);
      process.exit(0);
    },
    worker: () => setInterval(() => {}, 1000),
  });
  assert.ok(stock.length > 100, String(stock.length));
  assert.deepEqual(tested, stock);
});

test('functions of a worker object: the same errors as Node\'s', async () => {
  const [stock, tested] = await both({
    async primary({ cluster, report, plain, happens }) {
      const worker = cluster.fork();
      await happens(worker, 'online');
      const attempt = (name, call) => {
        try {
          report(name, 'fine', typeof call());
        } catch (error) {
          const { name: type, code, message } = plain(error);
          report(name, type, code ?? null, message.split('\n')[0]);
        }
      };
      for (const bad of [undefined, Symbol('x'), () => {}, 5n]) attempt(`send ${String(bad)}`, () => worker.send(bad));
      attempt('send a circle', () => {
        const circle = {};
        circle.circle = circle;
        return worker.send(circle);
      });
      for (const bad of [{}, 'x', 5]) attempt(`send with ${String(bad)}`, () => worker.send('x', bad));
      for (const bad of ['x', 5]) attempt(`send with options ${String(bad)}`, () => worker.send('x', undefined, bad));
      for (const bad of ['SIGNOPE', 999, {}, Symbol('x')]) attempt(`kill ${String(bad)}`, () => worker.kill(bad));
      worker.kill('SIGKILL');
      report('exit', ...await happens(worker, 'exit'));
    },
    worker: () => setInterval(() => {}, 1000),
  });
  assert.ok(stock.length > 12, String(stock.length));
  assert.deepEqual(tested, stock);
});

test('listen in a worker: the same errors as Node\'s', async () => {
  const [stock, tested] = await both({
    async primary({ cluster, happens }) {
      await happens(cluster.fork(), 'exit');
    },
    async worker({ cluster, report, plain }) {
      const net = require('node:net');
      const bad = [
        [-1], [65536], [1.5], [{}], [null], [true], [0, {}], [{ port: -1 }], [{ port: 'x' }], [{ port: 65536 }],
        [{ fd: -1 }], [{ path: 5 }], [{ path: '' }], [{ host: '127.0.0.1' }], [{ port: null, host: '127.0.0.1' }],
        [{ port: 0, host: 5 }], [{ port: 0, signal: 5 }], [{ port: 0, backlog: 'x', host: '127.0.0.1' }],
        [{ port: 0, backlog: -5, host: '127.0.0.1' }],
      ];
      for (const [i, list] of bad.entries()) {
        const server = net.createServer();
        const outcome = await new Promise((resolve) => {
          server.on('error', (error) => resolve(['error', plain(error).code, error.syscall ?? null]));
          server.on('listening', () => resolve(['listening']));
          try {
            server.listen(...list);
          } catch (error) {
            resolve(['thrown', error.name, error.code ?? null]);
          }
        });
        report(`listen ${i}`, ...outcome);
        if (server.listening) await new Promise((resolve) => server.close(resolve));
      }
      const server = net.createServer().listen(0, '127.0.0.1', () => {
        try {
          server.listen(0);
        } catch (error) {
          report('twice', error.code);
        }
        cluster.worker.disconnect();
      });
    },
  });
  assert.ok(stock.length > 18, String(stock.length));
  assert.deepEqual(tested, stock);
});

// What a worker whose program went wrong, or wants harm, can write to the primary over Node's channel.
const query = { act: 'queryServer', address: null, port: 0, addressType: 4, index: 0 };
const hostile = [
  { act: 'queryServer' }, { act: 'queryServer', address: {}, port: 'x', addressType: 9, fd: 'y', index: [] },
  { ...query, port: -5 }, { ...query, port: 1e9 }, { ...query, port: null }, { ...query, fd: 1e9 },
  { ...query, fd: 'x' }, { ...query, address: 'x'.repeat(9000) }, { ...query, address: 5, port: -1, addressType: -1 },
  { ...query, addressType: 'x' },
  { ...query, address: '127.0.0.1', backlog: 'x', flags: {}, index: '__proto__' },
  { ...query, address: '127.0.0.1', backlog: 1e18, flags: -1, index: 1 },
  { act: 'close' }, { act: 'close', key: '__proto__' }, { act: 'close', key: 5 }, { act: 'close', key: {} },
  { act: 'listening' }, { act: 'online' }, { act: 'exitedAfterDisconnect' }, { act: '__proto__' }, { act: 'toString' },
  { act: 7 }, {}, { ack: 1e9 }, { ack: 'x' }, { ack: {} }, { ack: null, accepted: 'x' }, { act: 'newconn' },
  { act: 'disconnect' },
];

test('a hostile worker cannot bring down the primary with messages of the cluster', ours, async () => {
  const run = await play({
    data: hostile,
    async primary({ cluster, report, happens, ask }) {
      const good = cluster.fork({ GOOD: 1 });
      const [{ port }] = await happens(good, 'listening');
      const bad = cluster.fork();
      bad.on('error', () => {});
      await Promise.race([happens(bad, 'exit'), happens(bad, 'message')]);
      bad.process.kill('SIGKILL');
      if (!bad.isDead()) await happens(bad, 'exit');
      report('good', await ask(port), await ask(port));
      report('stats', typeof cluster.stats().workers.length);
      good.disconnect();
      report('exit', ...await happens(good, 'exit'));
    },
    async worker({ data }) {
      if (process.env.GOOD) {
        require('node:net').createServer((socket) => socket.end('good')).listen(0, '127.0.0.1');
        return;
      }
      for (const marker of [{}, { crs: 1 }, { crs: 'x' }, { crs: {} }]) {
        for (const [seq, message] of data.entries()) {
          process.send({ cmd: 'NODE_CLUSTER', seq: seq % 3 ? 1e6 + seq : {}, ...marker, ...message });
        }
      }
      for (const cmd of ['NODE_CLUSTER', 'NODE_CLUSTER_RS', 'NODE_', 'NODE_DEBUG_ENABLED']) process.send({ cmd });
      process.send('survived');
      setInterval(() => {}, 1000);
    },
  });
  assert.deepEqual(run.all('good'), [['good', 'good']]);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('garbage on every descriptor that a worker holds harms that worker at most', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const good = cluster.fork({ GOOD: 1 });
      const [{ port }] = await happens(good, 'listening');
      const bad = cluster.fork();
      bad.on('error', () => {});
      await Promise.race([happens(bad, 'message'), happens(bad, 'exit')]);
      for (let i = 0; i < 4; i++) report('answer', await ask(port));
      if (!bad.isDead()) {
        bad.process.kill('SIGKILL');
        await happens(bad, 'exit');
      }
      report('afterwards', await ask(port));
      good.disconnect();
      report('exit', ...await happens(good, 'exit'));
    },
    worker({ descriptors, report }) {
      const server = require('node:net').createServer((socket) => socket.end('good'));
      server.listen(0, '127.0.0.1', () => {
        if (process.env.GOOD) return;
        const fs = require('node:fs');
        // Node's own channel is Node's matter: there garbage is an error in the primary whatever the module.
        const channel = process.channel.fd ?? 3;
        for (const [fd, target] of Object.entries(descriptors())) {
          if (!target.startsWith('socket:') || Number(fd) === channel || fd <= 2) continue;
          for (const size of [1, 7, 64, 4000]) {
            try {
              report('writes', size);
              fs.writeSync(Number(fd), require('node:crypto').randomBytes(size));
            } catch {
              // One that cannot be written to.
            }
          }
        }
        process.send('done');
      });
    },
  });
  assert.ok(run.all('writes').length > 0);
  assert.deepEqual(run.all('answer'), new Array(4).fill(['good']));
  assert.equal(run.one('afterwards'), 'good');
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('stats is there without a fork and gives plain objects that are the caller\'s own', ours, async () => {
  const run = await play({
    primary({ cluster, report }) {
      const stats = cluster.stats('ignored');
      stats.workers.push('mine');
      report('stats', cluster.stats(), Object.getPrototypeOf(stats) === Object.prototype);
    },
  });
  assert.deepEqual(run.all('stats'), [[{ workers: [], addresses: [], notices: [] }, true]]);
});
