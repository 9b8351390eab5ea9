'use strict';
// Which events there are, with which arguments, in which order, and the states between them.

const test = require('node:test');
const assert = require('node:assert/strict');
const { play } = require('../support/index.cjs');

test('a worker\'s life: every event of the worker and of the cluster, in order', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      for (const name of ['setup', 'fork', 'online', 'listening', 'message', 'disconnect', 'exit']) {
        cluster.on(name, (...values) => report('event', `cluster ${name}`, values.map((value) => (
          value instanceof cluster.Worker ? `worker ${value.id}` : value))));
      }
      const worker = cluster.fork();
      report('state', worker.state, worker.isConnected(), worker.isDead(), cluster.workers[1] === worker);
      for (const name of ['fork', 'online', 'listening', 'message', 'disconnect', 'exit']) {
        worker.on(name, (...values) => {
          report('event', `worker ${name}`, values);
          report('state', worker.state, worker.isConnected(), worker.isDead(), cluster.workers[1] === worker);
        });
      }
      await happens(worker, 'listening');
      worker.send('stop');
      await happens(worker, 'exit');
      report('at the end', worker.exitedAfterDisconnect, Object.keys(cluster.workers));
    },
    worker({ cluster, report }) {
      const { worker } = cluster;
      for (const name of ['online', 'listening', 'disconnect', 'exit', 'error', 'message']) {
        worker.on(name, (...values) => report('inside', name, values, worker.state));
        cluster.on(name, () => report('inside the cluster', name));
      }
      const server = require('node:net').createServer().listen(0, '127.0.0.1', () => {
        report('port', server.address().port);
        process.send('hello');
      });
      process.on('message', () => worker.disconnect());
    },
  });
  const port = run.one('port');
  const address = { addressType: 4, address: '127.0.0.1', port };
  const events = run.all('event');
  const [[, [settings]]] = events;
  assert.match(settings.exec, /scenario\.cjs$/);
  const wanted = [
    ['cluster setup', [settings]],
    ['cluster fork', ['worker 1']],
    ['worker online', []],
    ['cluster online', ['worker 1']],
    ['worker listening', [address]],
    ['cluster listening', ['worker 1', address]],
    ['worker message', ['hello', null]],
    ['cluster message', ['worker 1', 'hello', null]],
    ['worker disconnect', []],
    ['cluster disconnect', ['worker 1']],
    ['worker exit', [0, null]],
    ['cluster exit', ['worker 1', 0, null]],
  ];
  // 'message' and 'listening' are sent by the worker one after the other, in whichever order it came to them; and the
  // cluster's own listener for messages stands before that of the program.
  const order = (list) => list.map(([name]) => name).filter((name) => !/message/.test(name));
  assert.deepEqual(order(events), order(wanted));
  for (const one of wanted) assert.ok(events.some((other) => isSame(one, other)), JSON.stringify(one));
  assert.equal(events.length, wanted.length);
  const states = run.all('state');
  assert.deepEqual(states[0], ['none', true, false, true]);
  assert.deepEqual(states[1], ['online', true, false, true]);
  assert.deepEqual(states.filter(([state]) => state === 'listening')[0], ['listening', true, false, true]);
  assert.deepEqual(states.at(-2), ['disconnected', false, false, true]);
  assert.deepEqual(states.at(-1), ['dead', false, true, false]);
  assert.deepEqual(run.all('at the end'), [[true, []]]);
  assert.deepEqual(run.all('inside'), [['message', ['stop', null], 'listening'], ['disconnect', [], 'disconnecting']]);
  assert.deepEqual(run.all('inside the cluster'), []);
});

function isSame(one, other) {
  try {
    assert.deepEqual(one, JSON.parse(JSON.stringify(other)));
    return true;
  } catch {
    return false;
  }
}

test('fork is said in the next tick, and the ids only grow', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      cluster.on('fork', (worker) => report('fork', worker.id));
      const workers = [cluster.fork(), cluster.fork()];
      report('forked', workers.map(({ id }) => id), Object.keys(cluster.workers));
      await Promise.all(workers.map((worker) => happens(worker, 'exit')));
      const third = cluster.fork();
      report('third', third.id);
      await happens(third, 'exit');
    },
    worker: ({ cluster, report }) => {
      report('worker', cluster.worker.id);
      process.disconnect();
    },
  });
  const names = run.reports.map(({ name }) => name).filter((name) => name !== 'worker');
  assert.deepEqual(names, ['forked', 'fork', 'fork', 'third', 'fork']);
  assert.deepEqual(run.all('fork'), [[1], [2], [3]]);
  assert.deepEqual(run.all('forked'), [[[1, 2], ['1', '2']]]);
  assert.deepEqual(run.all('worker').flat().sort(), [1, 2, 3]);
});

test('exit tells the code or the signal', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      for (const HOW of ['7', 'SIGKILL', 'SIGTERM', 'throw']) {
        const worker = cluster.fork({ HOW });
        const gone = happens(cluster, 'exit');
        const [code, signal] = await happens(worker, 'exit');
        const [which, ...same] = await gone;
        report('exit', code, signal, worker.exitedAfterDisconnect, which === worker, same);
        report('process', worker.process.exitCode, worker.process.signalCode);
      }
    },
    worker() {
      const { HOW } = process.env;
      if (HOW === '7') process.exit(7);
      if (HOW === 'throw') {
        process.stderr.write = () => true;
        throw new Error('on purpose');
      }
      process.kill(process.pid, HOW);
      setInterval(() => {}, 1000);
    },
  });
  assert.deepEqual(run.all('exit'), [
    [7, null, false, true, [7, null]],
    [null, 'SIGKILL', false, true, [null, 'SIGKILL']],
    [null, 'SIGTERM', false, true, [null, 'SIGTERM']],
    [1, null, false, true, [1, null]],
  ]);
  assert.deepEqual(run.all('process'), [[7, null], [null, 'SIGKILL'], [null, 'SIGTERM'], [1, null]]);
});

test('messages go both ways with their handles, and cluster and worker both hear them', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const both = Promise.all([happens(cluster, 'message'), happens(worker, 'message')]);
      await happens(worker, 'online');
      const server = require('node:net').createServer((socket) => socket.end('the primary')).listen(0, '127.0.0.1');
      await happens(server, 'listening');
      report('returned', worker.send({ take: 'this' }, server, (error) => report('callback', error)));
      const [[from, message, handle], [same]] = await both;
      report('heard', from === worker, message, handle?.constructor.name, same === message);
      handle.on('connection', (socket) => socket.end('the primary'));
      const { port } = handle.address();
      report('mine', await ask(port));
      await new Promise((resolve) => handle.close(resolve));
      report('theirs', await ask(server.address().port));
      server.close();
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker({ cluster, report }) {
      cluster.worker.once('message', (message, server) => {
        report('worker heard', message, server.listening);
        server.on('connection', (socket) => socket.end('the worker'));
        // The server of this process alone, which the primary did not make.
        const own = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
          cluster.worker.send({ from: 'worker' }, own, () => own.close());
        });
        cluster.worker.process.on('disconnect', () => server.close());
      });
    },
  });
  assert.deepEqual(run.all('heard'), [[true, { from: 'worker' }, 'Server', true]]);
  assert.deepEqual(run.all('worker heard'), [[{ take: 'this' }, true]]);
  assert.deepEqual(run.all('returned'), [[true]]);
  assert.deepEqual(run.all('callback'), [[null]]);
  assert.equal(run.one('mine'), 'the primary');
  assert.match(run.one('theirs'), /the (worker|primary)/);
});

test('messages that look like the cluster\'s own are the program\'s unless Node says otherwise', async () => {
  const run = await play({
    async primary({ cluster, report, happens, until, request }) {
      const worker = cluster.fork();
      const heard = [];
      worker.on('message', (message) => heard.push(message));
      const [{ port }] = await happens(worker, 'listening');
      worker.send({ act: 'disconnect' });
      worker.send({ cmd: 'CLUSTER', act: 'queryServer' });
      worker.send({ cmd: 'cluster-rs', crs: 1 });
      await until(() => heard.length === 3, 'the echoes');
      report('heard', heard);
      report('alive', (await request(port)).body);
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      process.on('message', (message) => process.send(message));
      require('node:http').createServer((asked, answer) => answer.end('alive')).listen(0);
    },
  });
  assert.deepEqual(run.one('heard'),
    [{ act: 'disconnect' }, { cmd: 'CLUSTER', act: 'queryServer' }, { cmd: 'cluster-rs', crs: 1 }]);
  assert.equal(run.one('alive'), 'alive');
});

test('a worker that cannot be started says error, not exit of the primary', async () => {
  const run = await play({
    async primary({ cluster, report, plain, happens }) {
      cluster.setupPrimary({ cwd: '/no/such/folder' });
      const worker = cluster.fork();
      worker.on('exit', (...values) => report('exit', ...values));
      const [error] = await happens(worker, 'error');
      report('error', plain(error));
      report('worker', worker.process.pid === undefined, worker.id);
      cluster.setupPrimary({ cwd: undefined });
      await happens(cluster.fork(), 'exit');
      process.exit(0); // Node itself keeps the channel of the worker that never was.
    },
    worker: () => process.disconnect(),
  });
  const { code, errno, syscall } = run.one('error');
  assert.deepEqual({ code, errno }, { code: 'ENOENT', errno: -2 });
  assert.match(syscall, /^spawn /);
  assert.deepEqual(run.all('worker'), [[true, 1]]);
});
