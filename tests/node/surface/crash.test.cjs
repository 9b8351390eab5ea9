'use strict';
// What a dying worker leaves behind: nothing that hangs, nothing that leaks, no primary that falls with it.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, play } = require('../support/index.cjs');

test('send to a worker that is gone returns false, gives the callback an error and is no crash', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const told = (worker, what) => new Promise((resolve) => {
        const returned = worker.send({ hello: 1 }, (error) => resolve(report('callback', what, error?.code ?? null)));
        report('returned', what, returned);
      });
      const dead = cluster.fork();
      dead.on('error', (error) => report('error', error.code));
      await happens(dead, 'listening');
      dead.process.kill('SIGKILL');
      // Before the death is known, and after.
      for (let i = 0; i < 50; i++) dead.send({ early: i });
      await happens(dead, 'exit');
      report('without a callback', dead.send('x'));
      await told(dead, 'dead');
      const gone = cluster.fork({ STAY: 1 });
      await happens(gone, 'listening');
      gone.disconnect();
      await happens(gone, 'disconnect');
      await told(gone, 'disconnected');
      gone.process.kill('SIGKILL');
      await happens(gone, 'exit');
      const next = cluster.fork();
      await happens(next, 'listening');
      report('the next is well', next.send('hello'));
      next.disconnect();
      await happens(next, 'exit');
    },
    worker() {
      require('node:net').createServer().listen(0, '127.0.0.1');
      process.on('message', () => {});
      if (process.env.STAY) setInterval(() => {}, 1000);
    },
  });
  assert.deepEqual(run.all('returned'), [['dead', false], ['disconnected', false]]);
  assert.equal(run.one('without a callback'), false);
  const codes = run.all('callback');
  assert.equal(codes.length, 2);
  for (const [, code] of codes) assert.ok(['ERR_IPC_CHANNEL_CLOSED', 'EPIPE'].includes(code), code);
  assert.equal(run.one('the next is well'), true);
});

test('a worker that dies while the primary answers it harms nobody', ours, async () => {
  const run = await play({
    leaves: true, // The address of a worker that crashed is kept for a while, if it was opened in time.
    async primary({ cluster, report, happens }) {
      for (let i = 0; i < 10; i++) {
        const worker = cluster.fork();
        report('exit', ...await happens(worker, 'exit'));
      }
    },
    worker() {
      // The question is on its way; nobody waits for the answer.
      const server = require('node:net').createServer().listen(0, '127.0.0.1');
      setImmediate(() => process.kill(process.pid, 'SIGKILL'));
      server.unref();
    },
  });
  assert.deepEqual(run.all('exit'), new Array(10).fill([null, 'SIGKILL']));
});

test('connections that wait for a stopped worker when it is killed are served by another', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, until }) {
      const workers = [cluster.fork(), cluster.fork()];
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
      const [stopped, other] = workers;
      stopped.process.kill('SIGSTOP');
      const answers = Array.from({ length: 8 }, () => ask(port));
      await until(() => cluster.stats().addresses[0]?.accepted === 8, 'the connections');
      stopped.process.kill('SIGKILL');
      report('answers', await Promise.all(answers));
      report('lost', cluster.stats().addresses[0].lost);
      other.disconnect();
      await happens(other, 'exit');
    },
    worker({ cluster }) {
      require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`)).listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(run.one('answers'), new Array(8).fill('2'));
  assert.equal(run.one('lost'), 0);
});

test('connections that wait for a worker that sleeps are served by another, without a kill', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, everybody }) {
      const workers = [cluster.fork(), cluster.fork()];
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
      const [stopped, other] = workers;
      stopped.process.kill('SIGSTOP');
      report('answers', await Promise.all(Array.from({ length: 8 }, () => ask(port))));
      // It comes back into the rotation when it wakes.
      stopped.process.kill('SIGCONT');
      report('both', await everybody(2, () => ask(port)));
      stopped.disconnect();
      other.disconnect();
    },
    worker({ cluster }) {
      require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`)).listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(run.one('answers'), new Array(8).fill('2'));
  assert.deepEqual(run.one('both'), ['1', '2']);
});

test('after the crash of the last worker its successor serves the port, and what came meanwhile', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, refusal }) {
      const first = cluster.fork();
      const [{ port }] = await happens(first, 'listening');
      first.process.kill('SIGKILL');
      await happens(first, 'exit');
      report('refused', await refusal(port));
      const meanwhile = ask(port);
      const second = cluster.fork();
      const [address] = await happens(second, 'listening');
      report('same', address.port === port);
      report('meanwhile', await meanwhile, await ask(port));
      report('slots', first.slot, second.slot);
      second.disconnect();
      await happens(second, 'exit');
      report('closed', await refusal(port));
    },
    worker({ cluster }) {
      const socketEnds = (socket) => socket.on('error', () => {}).end(`${cluster.worker.id}`);
      require('node:net').createServer(socketEnds).listen(0, '127.0.0.1');
    },
  });
  assert.equal(run.one('refused'), null);
  assert.equal(run.one('same'), true);
  assert.deepEqual(run.all('meanwhile'), [['2', '2']]);
  assert.deepEqual(run.all('slots'), [[0, 0]]);
  assert.equal(run.one('closed'), 'ECONNREFUSED');
});

test('workers that come and go leave no descriptor, no child and no entry in the primary', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, until, descriptors, childrenOf }) {
      const round = async (how) => {
        const workers = [cluster.fork(), cluster.fork()];
        const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
        await Promise.all([ask(port), ask(port), ask(port)]);
        const exits = Promise.all(workers.map((worker) => happens(worker, 'exit')));
        for (const worker of workers) {
          if (how === 'disconnect') worker.disconnect();
          else worker.process.kill(how);
        }
        await exits;
      };
      const count = () => Object.keys(descriptors()).length;
      for (const how of ['disconnect', 'SIGKILL']) await round(how);
      // What a crash leaves open for a successor is closed after some seconds.
      let before = count();
      await until(() => {
        const now = count();
        const settled = now === before && childrenOf(process.pid).length === 0;
        before = now;
        return settled;
      }, 'the first rounds to settle');
      for (let i = 0; i < 6; i++) await round(i % 2 ? 'disconnect' : 'SIGKILL');
      await until(() => count() <= before, `${before} descriptors as before`).catch(() => {});
      report('descriptors', count() <= before, before, count(), Object.values(descriptors()));
      report('children', childrenOf(process.pid).length, Object.keys(cluster.workers));
    },
    worker() {
      require('node:net').createServer((socket) => socket.end('x')).listen(0, '127.0.0.1');
    },
  });
  const [[fewer, before, after, list]] = run.all('descriptors');
  assert.ok(fewer, `${before} then ${after}: ${list}`);
  assert.deepEqual(run.all('children'), [[0, []]]);
});

test('slots: the lowest that is free, kept for life, given to the successor', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const workers = [cluster.fork(), cluster.fork(), cluster.fork()];
      await Promise.all(workers.map((worker) => happens(worker, 'message')));
      report('slots', workers.map(({ slot }) => slot));
      workers[1].process.kill('SIGKILL');
      await happens(workers[1], 'exit');
      const next = cluster.fork();
      const [inside] = await happens(next, 'message');
      report('next', next.id, next.slot, inside);
      report('still', workers.map(({ slot }) => slot));
      for (const worker of [workers[0], workers[2], next]) {
        worker.process.kill('SIGKILL');
        await happens(worker, 'exit');
      }
    },
    worker({ cluster }) {
      process.send(cluster.worker.slot);
      setInterval(() => {}, 1000);
    },
  });
  assert.deepEqual(run.one('slots'), [0, 1, 2]);
  assert.deepEqual(run.all('next'), [[4, 1, 1]]);
  assert.deepEqual(run.one('still'), [0, 1, 2]);
});
