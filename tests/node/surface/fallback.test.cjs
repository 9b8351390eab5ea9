'use strict';
// Workers that have no addon: they get their connections as Node's own workers do, also beside others on one port.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, play } = require('../support/index.cjs');

const WITHOUT = { CLUSTER_RS_ADDON: '/nonexistent.node' };
const plain = 'require("http").createServer((q, a) => a.end(process.env.NAME)).listen(0, "127.0.0.1");';
// A worker that was not even preloaded.
const stripped = '#!/bin/sh\nexec env -u NODE_OPTIONS "$NODE" "$@"\n';

test('a worker without the addon works alone', ours, async () => {
  const run = await play({
    files: { 'plain.cjs': plain },
    data: WITHOUT,
    async primary({ cluster, report, happens, request, refusal, until, data }) {
      cluster.setupPrimary({ exec: 'plain.cjs' });
      const worker = cluster.fork({ ...data, NAME: 'alone' });
      const [address] = await happens(worker, 'listening');
      for (let i = 0; i < 5; i++) report('answer', (await request(address.port)).body);
      report('address', address);
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'), worker.exitedAfterDisconnect);
      report('closed', await until(() => refusal(address.port), 'the port to be closed'));
    },
  });
  assert.deepEqual(run.all('answer'), new Array(5).fill(['alone']));
  assert.equal(run.one('address').address, '127.0.0.1');
  assert.deepEqual(run.all('exit'), [[0, null, true]]);
  assert.equal(run.one('closed'), 'ECONNREFUSED');
});

for (const [name, first] of [['before', true], ['after', false]]) {
  test(`a worker without the addon that listens ${name} a full one shares its port in turn`, ours, async () => {
    const run = await play({
      files: { 'plain.cjs': plain },
      data: { WITHOUT, first },
      async primary({ cluster, report, happens, everybody, request, data }) {
        cluster.setupPrimary({ exec: 'plain.cjs' });
        const workers = [];
        for (const without of data.first ? [true, false] : [false, true]) {
          const worker = cluster.fork(without ? { ...data.WITHOUT, NAME: 'without' } : { NAME: 'with' });
          const [address] = await happens(worker, 'listening');
          workers.push([worker, address.port]);
        }
        report('same port', workers[0][1] === workers[1][1]);
        const [[, port]] = workers;
        report('answers', await everybody(2, async () => (await request(port)).body));
        report('many', (await Promise.all(Array.from({ length: 40 }, () => request(port)))).map(({ body }) => body));
        for (const [worker] of workers) {
          worker.disconnect();
          report('exit', ...await happens(worker, 'exit'));
        }
      },
    });
    assert.equal(run.one('same port'), true);
    const count = (list, name) => list.filter((one) => one === name).length;
    assert.deepEqual(run.one('answers'), ['with', 'without']);
    const many = run.one('many');
    assert.equal(count(many, 'with') + count(many, 'without'), 40);
    assert.ok(count(many, 'without') > 0 && count(many, 'with') > 0);
    assert.deepEqual(run.all('exit'), [[0, null], [0, null]]);
  });
}

test('a worker that was not preloaded at all is served beside full ones, and goes as it came', ours, async () => {
  const run = await play({
    files: { 'plain.cjs': plain, 'wrap.sh': stripped },
    env: { NODE: process.execPath },
    async primary({ cluster, report, happens, everybody, request, directory }) {
      require('node:fs').chmodSync('wrap.sh', 0o755);
      const { execPath } = process;
      cluster.setupPrimary({ exec: 'plain.cjs' });
      const full = cluster.fork({ NAME: 'full' });
      process.execPath = `${directory}/wrap.sh`;
      const bare = cluster.fork({ NAME: 'bare' });
      process.execPath = execPath;
      const [[{ port }]] = await Promise.all([full, bare].map((worker) => happens(worker, 'listening')));
      report('answers', (await everybody(2, async () => (await request(port)).body)).join());
      full.disconnect();
      await happens(full, 'exit');
      report('alone', (await request(port)).body, (await request(port)).body);
      bare.disconnect();
      report('exit', ...await happens(bare, 'exit'));
    },
  });
  assert.equal(run.one('answers'), 'bare,full');
  assert.deepEqual(run.all('alone'), [['bare', 'bare']]);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

// What the engine sees first, that its channel to the worker is closed or that the worker listens, is a matter of luck.
test('workers without the addon, one after the other, all work and go on working', ours, async () => {
  const run = await play({
    data: WITHOUT,
    async primary({ cluster, report, happens, ask, data }) {
      for (let round = 0; round < 20; round++) {
        const worker = cluster.fork(data);
        const [{ port }] = await happens(worker, 'listening');
        report('answers', await ask(port).catch(({ code }) => code), await ask(port).catch(({ code }) => code));
        // The address of one that fails may be kept for its successor; the last has none.
        if (round < 19) worker.process.kill('SIGKILL');
        else worker.disconnect();
        await happens(worker, 'exit');
      }
    },
    worker() {
      require('node:net').createServer((socket) => socket.on('error', () => {}).end('x')).listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(run.all('answers'), new Array(20).fill(['x', 'x']));
});

test('unix sockets, close and listen again, and two servers in a worker without the addon', ours, async () => {
  const run = await play({
    data: WITHOUT,
    async primary({ cluster, report, happens, ask, data }) {
      const worker = cluster.fork(data);
      for (let round = 0; round < 3; round++) {
        const [port] = await happens(worker, 'message');
        report('answers', await ask(port), await ask('some.sock'), await ask(port));
        worker.send('again');
      }
      await happens(worker, 'message');
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker() {
      const net = require('node:net');
      const { once } = require('node:events');
      const servers = ['tcp', 'unix'].map((word) => net.createServer((socket) => socket.end(word)));
      const listen = async () => {
        servers[0].listen(0, '127.0.0.1');
        servers[1].listen('some.sock');
        await Promise.all(servers.map((server) => once(server, 'listening')));
        process.send(servers[0].address().port);
      };
      process.on('message', async () => {
        await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
        listen();
      });
      listen();
    },
  });
  assert.deepEqual(run.all('answers'), new Array(3).fill(['tcp', 'unix', 'tcp']));
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('errors and events are the same without the addon', ours, async () => {
  const run = await play({
    data: WITHOUT,
    async primary({ cluster, report, happens, data }) {
      const taken = require('node:net').createServer().listen(0, '127.0.0.1');
      await happens(taken, 'listening');
      for (const env of [data, {}]) {
        const worker = cluster.fork({ ...env, PORT: taken.address().port });
        report('error', (await happens(worker, 'message'))[0]);
        worker.disconnect();
        await happens(worker, 'exit');
      }
      taken.close();
    },
    worker({ plain: tell }) {
      const server = require('node:net').createServer().on('error', (error) => process.send(tell(error)));
      server.listen(Number(process.env.PORT), '127.0.0.1');
    },
  });
  const [[without], [full]] = run.all('error');
  assert.deepEqual(without, full);
  assert.equal(full.code, 'EADDRINUSE');
});

test('the death of a worker without the addon loses no connection that waits in the primary', ours, async () => {
  const run = await play({
    files: { 'plain.cjs': plain },
    data: WITHOUT,
    async primary({ cluster, report, happens, request, data }) {
      cluster.setupPrimary({ exec: 'plain.cjs' });
      const without = cluster.fork({ ...data, NAME: 'without' });
      const full = cluster.fork({ NAME: 'full' });
      const [[{ port }]] = await Promise.all([without, full].map((worker) => happens(worker, 'listening')));
      without.process.kill('SIGSTOP');
      // At most the one that was handed to the stopped process over Node's channel can be in its hands.
      const answers = Array.from({ length: 10 }, () => request(port).then(({ body }) => body, (error) => error.code));
      without.process.kill('SIGKILL');
      await happens(without, 'exit');
      report('answers', await Promise.all(answers));
      report('afterwards', (await request(port)).body);
      full.disconnect();
      await happens(full, 'exit');
    },
  });
  const answers = run.one('answers');
  assert.ok(answers.filter((one) => one === 'full').length >= 9, answers.join());
  assert.equal(run.one('afterwards'), 'full');
});

test('a worker that asks for the module itself without its addon hears one clear error', ours, async () => {
  const run = await play({
    module: 'node:cluster',
    env: { CLUSTER_RS_ADDON: '/nonexistent.node' },
    primary({ report }) {
      for (const name of ['cluster-rs', 'cluster-rs/register']) {
        try {
          require(name);
          report('loaded', name);
        } catch (error) {
          report('error', name, error.name, error.code, error.message.split('\n').length, error.cause !== undefined,
            error.message.includes('/nonexistent.node'));
        }
      }
      report('untouched', typeof require('node:cluster').stats);
    },
  });
  assert.deepEqual(run.all('loaded'), []);
  assert.deepEqual(run.all('error'), ['cluster-rs', 'cluster-rs/register']
    .map((name) => [name, 'Error', 'ERR_CLUSTER_RS_ADDON', 1, true, true]));
  assert.equal(run.one('untouched'), 'undefined');
});
