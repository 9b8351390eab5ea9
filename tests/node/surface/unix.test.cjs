'use strict';
// Unix sockets: relative, absolute, abstract, long, their rights, and when their files go.

const test = require('node:test');
const assert = require('node:assert/strict');
const path = require('node:path');
const { ours, play } = require('../support/index.cjs');

test('relative and absolute paths name the same socket, shared by all', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, everybody, directory }) {
      const relative = cluster.fork({ WHERE: 'shared.sock' });
      const [one] = await happens(relative, 'listening');
      const absolute = cluster.fork({ WHERE: `${directory}/shared.sock` });
      const [two] = await happens(absolute, 'listening');
      report('addresses', one, two);
      report('answers', (await everybody(2, () => ask('shared.sock'))).join());
      const { existsSync } = require('node:fs');
      relative.disconnect();
      await happens(relative, 'exit');
      report('after the first', existsSync('shared.sock'), await ask('shared.sock'));
      absolute.disconnect();
      await happens(absolute, 'exit');
      report('after the last', existsSync('shared.sock'));
    },
    worker({ cluster, report }) {
      const server = require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`));
      server.listen(process.env.WHERE, () => report('own', server.address()));
    },
  });
  const address = { addressType: -1, address: path.join(run.directory, 'shared.sock'), port: -1 };
  assert.deepEqual(run.all('addresses'), [[address, address]]);
  assert.deepEqual(run.all('own'), [['shared.sock'], [address.address]]);
  assert.equal(run.one('answers'), '1,2');
  assert.deepEqual(run.all('after the first'), [[true, '2']]);
  assert.deepEqual(run.all('after the last'), [[false]]);
});

test('a path is relative to the worker, which may stand elsewhere', async () => {
  const run = await play({
    files: { 'there/note': '' },
    async primary({ cluster, report, happens, ask, directory }) {
      const worker = cluster.fork();
      const [address] = await happens(worker, 'listening');
      report('address', address.address);
      report('answer', await ask(`${directory}/there/here.sock`));
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      process.chdir('there');
      require('node:net').createServer((socket) => socket.end('there')).listen('./here.sock');
    },
  });
  assert.equal(run.one('address'), path.join(run.directory, 'there/here.sock'));
  assert.equal(run.one('answer'), 'there');
});

test('an absolute path that is too long is bound by its relative name', async () => {
  const deep = `${'a'.repeat(60)}/${'b'.repeat(60)}`;
  const run = await play({
    files: { [`${deep}/note`]: '' },
    data: deep,
    async primary({ cluster, report, happens, ask, directory, data: deep }) {
      process.chdir(deep);
      const worker = cluster.fork({ WHERE: `${directory}/${deep}/long.sock` });
      const [address] = await happens(worker, 'listening');
      report('address', address.address);
      report('answer', await ask('long.sock'));
      worker.disconnect();
      await happens(worker, 'exit');
      report('gone', !require('node:fs').existsSync('long.sock'));
    },
    worker: () => require('node:net').createServer((socket) => socket.end('long')).listen(process.env.WHERE),
  });
  assert.equal(run.one('address'), path.join(run.directory, deep, 'long.sock'));
  assert.equal(run.one('answer'), 'long');
  assert.equal(run.one('gone'), true);
});

test('an abstract name has no file and serves all the same; it has no rights to be given', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, everybody, directory }) {
      const name = `\0${directory}`;
      const workers = [cluster.fork({ WHERE: directory }), cluster.fork({ WHERE: directory })];
      const outcomes = await Promise.all(workers.map((worker) => happens(worker, 'message')));
      report('outcomes', outcomes.map(([outcome]) => outcome));
      if (outcomes[0][0] === 'listening') report('answers', await everybody(2, () => ask(name)));
      cluster.disconnect();
    },
    worker({ cluster, report }) {
      const net = require('node:net');
      const name = `\0${process.env.WHERE}`;
      try {
        net.createServer().listen({ path: name, readableAll: true });
      } catch (error) {
        report('thrown', error.name, error.code);
      }
      const server = net.createServer((socket) => socket.end(`${cluster.worker.id}`));
      server.on('error', (error) => process.send(error.code));
      server.listen(name, () => process.send('listening'));
    },
  });
  assert.deepEqual(run.one('outcomes'), ['listening', 'listening']);
  assert.deepEqual(run.one('answers'), ['1', '2']);
  assert.deepEqual(run.all('thrown'), new Array(2).fill(['TypeError', 'ERR_INVALID_ARG_VALUE']));
});

test('readableAll and writableAll open the socket to everybody', async () => {
  const run = await play({
    data: [{}, { readableAll: true }, { writableAll: true }, { readableAll: true, writableAll: true }],
    async primary({ cluster, report, happens, data }) {
      const { statSync } = require('node:fs');
      process.umask(0o077);
      for (const [i, options] of data.entries()) {
        const worker = cluster.fork({ OPTIONS: JSON.stringify({ path: `s${i}.sock`, ...options }) });
        await happens(worker, 'listening');
        report('mode', statSync(`s${i}.sock`).mode & 0o006);
        worker.disconnect();
        await happens(worker, 'exit');
      }
    },
    worker: () => require('node:net').createServer().listen(JSON.parse(process.env.OPTIONS)),
  });
  const [plain, readable, writable, both] = run.all('mode').flat();
  assert.deepEqual({ plain, readable, writable, both }, { plain: 0, readable: 4, writable: 2, both: 6 });
});

// Node leaves it to the program, which cannot tell it from a live one.
test('a socket file that a crash left is replaced, since nobody listens on it', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, until }) {
      const { spawn } = require('node:child_process');
      const { existsSync } = require('node:fs');
      const crashed = spawn(process.execPath, ['-e', 'require("net").createServer().listen("left.sock")']);
      await until(() => existsSync('left.sock'), 'the socket');
      crashed.kill('SIGKILL');
      await happens(crashed, 'exit');
      const worker = cluster.fork();
      report('code', (await happens(worker, 'message'))[0], existsSync('left.sock'));
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      const server = require('node:net').createServer().on('error', (error) => process.send(error.code));
      server.listen('left.sock', () => process.send('listening'));
    },
  });
  assert.deepEqual(run.all('code'), [['listening', true]]);
});

for (const isReleased of [true, false]) {
  test(`such a file under a locked directory: ${isReleased ? 'a little later' : 'EADDRINUSE in the end'}`, ours, async () => {
    const run = await play({
      data: isReleased,
      async primary({ cluster, data, report, happens, until }) {
        const { spawn, spawnSync } = require('node:child_process');
        const { closeSync, existsSync, openSync } = require('node:fs');
        const crashed = spawn(process.execPath, ['-e', 'require("net").createServer().listen("left.sock")']);
        await until(() => existsSync('left.sock'), 'the socket');
        crashed.kill('SIGKILL');
        await happens(crashed, 'exit');
        // The lock is the open file's, which this process shares with the child that takes it.
        const directory = openSync('.');
        report('locked', spawnSync('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'inherit', directory] }).status);
        const worker = cluster.fork();
        // Behind the primary's own ear: it has tried once.
        worker.process.on('internalMessage', function release({ addressType }) {
          if (addressType !== -1 || !data) return;
          worker.process.removeListener('internalMessage', release);
          closeSync(directory);
        });
        report('outcome', (await happens(worker, 'message'))[0]);
        worker.kill();
        await happens(worker, 'exit');
      },
      worker() {
        const server = require('node:net').createServer().on('error', (error) => process.send(error.code));
        server.listen('left.sock', () => process.send('listening'));
      },
    });
    assert.deepEqual(run.all('locked'), [[0]]);
    assert.deepEqual(run.all('outcome'), [[isReleased ? 'listening' : 'EADDRINUSE']]);
  });
}

test('http over a unix socket, closed and listened on again', async () => {
  const run = await play({
    async primary({ cluster, report, happens, request }) {
      const worker = cluster.fork();
      for (const round of [1, 2, 3]) {
        await happens(worker, 'listening');
        report('answer', round, (await request('web.sock')).body);
        worker.send('again');
      }
      await happens(worker, 'listening');
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      const server = require('node:http').createServer((asked, answer) => answer.end('over unix')).listen('web.sock');
      process.on('message', () => server.close(() => server.listen('web.sock')));
    },
  });
  assert.deepEqual(run.all('answer'), [[1, 'over unix'], [2, 'over unix'], [3, 'over unix']]);
});

// As many programs do it for the sake of a file that a dead server has left.
const REMOVE_AND_LISTEN = `
  const fs = require('node:fs');
  fs.rmSync('shared.sock', { force: true });
  require('node:net').createServer((socket) => socket.end(String(require('node:cluster').worker.id))).listen('shared.sock');`;

test('each worker removes the socket file before it listens, and all are served', ours, async () => {
  const run = await play({
    env: { NODE_CLUSTER_SCHED_POLICY: 'rr' },
    files: { 'worker.cjs': REMOVE_AND_LISTEN },
    async primary({ cluster, report, happens, ask, everybody }) {
      process.on('warning', ({ message }) => report('warning', message));
      cluster.setupPrimary({ exec: 'worker.cjs' });
      for (let i = 0; i < 3; i++) await happens(cluster.fork(), 'listening');
      report('answers', (await everybody(3, () => ask('shared.sock'))).join());
      report('notices', cluster.stats().notices.length);
      cluster.workers[1].process.kill('SIGKILL');
      await happens(cluster.workers[1], 'exit');
      await happens(cluster.fork(), 'listening');
      report('answers', (await everybody(3, () => ask('shared.sock'))).join());
      cluster.disconnect();
    },
  });
  assert.deepEqual(run.all('answers'), [['1,2,3'], ['2,3,4']]);
  assert.deepEqual(run.all('notices'), [[1]]);
  assert.deepEqual(run.all('warning'), []);
});

test('a worker that ends removes the socket file, and the others are served', ours, async () => {
  const run = await play({
    env: { NODE_CLUSTER_SCHED_POLICY: 'rr' },
    async primary({ cluster, report, happens, ask, everybody }) {
      const workers = [];
      for (let i = 0; i < 3; i++) {
        workers.push(cluster.fork());
        await happens(workers[i], 'listening');
      }
      workers[0].disconnect();
      await happens(workers[0], 'exit');
      report('answers', (await everybody(2, () => ask('shared.sock'))).join());
      cluster.disconnect();
    },
    worker({ cluster }) {
      require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`)).listen('shared.sock');
      process.on('exit', () => require('node:fs').rmSync('shared.sock', { force: true }));
    },
  });
  assert.equal(run.one('answers'), '2,3');
});

test('where the workers have the socket itself, a warning says that nobody can connect', ours, async () => {
  const run = await play({
    env: { NODE_CLUSTER_SCHED_POLICY: 'none' },
    files: { 'worker.cjs': REMOVE_AND_LISTEN },
    async primary({ cluster, report, happens }) {
      const warned = happens(process, 'warning');
      cluster.setupPrimary({ exec: 'worker.cjs' });
      for (let i = 0; i < 2; i++) await happens(cluster.fork(), 'listening');
      const [{ code, message }] = await warned;
      report('warning', code, message);
      cluster.disconnect();
    },
  });
  const [[code, message]] = run.all('warning');
  assert.match(message, /shared\.sock: nobody can connect, because the socket file was removed/);
  assert.equal(code, 'CLUSTER_RS_ENGINE');
});

test('a primary whose directory was removed has its workers listen all the same', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, directory }) {
      const { mkdirSync, rmdirSync } = require('node:fs');
      mkdirSync('gone');
      process.chdir('gone');
      rmdirSync(`${directory}/gone`);
      cluster.setupPrimary({ cwd: directory });
      const worker = cluster.fork();
      await happens(worker, 'listening');
      report('answer', await ask(`${directory}/x.sock`));
      worker.disconnect();
      await happens(worker, 'exit');
      process.chdir(directory);
    },
    worker() {
      require('node:net').createServer((socket) => socket.end('here')).listen('x.sock');
    },
  });
  assert.equal(run.one('answer'), 'here');
});
