'use strict';
// A listen that fails says so in the worker with what Node says: code, errno, syscall, address, port, message.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { isStock, major, play } = require('../support/index.cjs');

// Each worker tries the options of data.listens one after another and reports what came of it.
async function attempt({ cluster, report, plain, data }) {
  const net = require('node:net');
  for (const options of data.listens) {
    const server = net.createServer();
    const outcome = await new Promise((resolve) => {
      server.once('error', (error) => resolve(plain(error)));
      server.listen(options, () => resolve('listening'));
    });
    report('outcome', outcome, server.listening, server.address());
    if (outcome === 'listening') await new Promise((resolve) => server.close(resolve));
  }
  cluster.worker.disconnect();
}

async function oneWorker({ cluster, happens }) {
  await happens(cluster.fork(), 'exit');
}

const bound = ({ address, port, code, errno }) => ({
  name: 'Error', code, errno, syscall: 'bind', address, port,
});

function check([outcome, listening, address], { ...wanted }) {
  const { message, ...rest } = outcome;
  for (const name of Object.keys(wanted)) if (wanted[name] === undefined) delete wanted[name];
  assert.deepEqual(rest, wanted);
  const where = wanted.port === undefined || wanted.port < 0 ? wanted.address : `${wanted.address}:${wanted.port}`;
  assert.ok(message.startsWith(`bind ${wanted.code}`), message);
  assert.ok(message.endsWith(where === undefined ? 'null' : where), message);
  assert.equal(listening, false);
  assert.equal(address, null);
}

test('EADDRINUSE of a port that others hold', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const taken = require('node:net').createServer().listen(0, '127.0.0.1');
      await happens(taken, 'listening');
      const { port } = taken.address();
      report('port', port);
      cluster.on('listening', () => report('listening'));
      const worker = cluster.fork({ PORT: port });
      await happens(worker, 'exit');
      taken.close();
    },
    worker({ cluster, report, plain }) {
      const server = require('node:net').createServer().listen(Number(process.env.PORT), '127.0.0.1');
      server.on('error', (error) => {
        report('outcome', plain(error), server.listening, server.address());
        cluster.worker.disconnect();
      });
    },
  });
  check(run.all('outcome')[0], bound({ code: 'EADDRINUSE', errno: -98, address: '127.0.0.1', port: run.one('port') }));
  assert.deepEqual(run.all('listening'), []);
});

const lowPort = () => {
  const lowest = Number(fs.readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
  return lowest > 1 && (process.getuid() !== 0 || { asRoot: true });
};

test('EACCES of a port that only root may bind', { skip: !lowPort() && 'every port is free here' }, async () => {
  const run = await play({
    data: { listens: [{ port: 1, host: '127.0.0.1' }] },
    async primary({ cluster, happens }) {
      const { realpathSync } = require('node:fs');
      // Only an effective user without the capability is refused.
      if (process.getuid() === 0) {
        process.setegid(65534);
        process.seteuid(65534);
      }
      if (realpathSync('.') === '') return;
      await happens(cluster.fork(), 'exit');
    },
    worker: attempt,
  });
  check(run.all('outcome')[0], bound({ code: 'EACCES', errno: -13, address: '127.0.0.1', port: 1 }));
});

test('EADDRNOTAVAIL of an address that is not this machine\'s, and the next listen is tried anew', async () => {
  const run = await play({
    data: { listens: [{ port: 0, host: '192.0.2.1' }, { port: 0, host: '192.0.2.1' }, { port: 0, host: '127.0.0.1' }] },
    primary: oneWorker,
    worker: attempt,
  });
  const [first, second, third] = run.all('outcome');
  check(first, bound({ code: 'EADDRNOTAVAIL', errno: -99, address: '192.0.2.1', port: undefined }));
  check(second, bound({ code: 'EADDRNOTAVAIL', errno: -99, address: '192.0.2.1', port: undefined }));
  assert.equal(third[0], 'listening');
});

test('an address that failed is tried anew by the next worker, and works once it is free', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, everybody }) {
      const taken = require('node:net').createServer().listen(0, '127.0.0.1');
      await happens(taken, 'listening');
      const { port } = taken.address();
      const first = cluster.fork({ PORT: port });
      report('first', (await happens(first, 'message'))[0]);
      const second = cluster.fork({ PORT: port });
      report('second', (await happens(second, 'message'))[0]);
      await new Promise((resolve) => taken.close(resolve));
      for (const worker of [first, second]) {
        worker.send('again');
        report('again', (await happens(worker, 'message'))[0]);
      }
      report('answers', await everybody(2, () => ask(port)));
      for (const worker of [first, second]) {
        worker.disconnect();
        await happens(worker, 'exit');
      }
    },
    worker({ cluster }) {
      const server = require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`));
      const listen = () => server.listen(Number(process.env.PORT), '127.0.0.1');
      server.on('error', (error) => process.send(error.code));
      server.on('listening', () => process.send('listening'));
      process.on('message', listen);
      listen();
    },
  });
  assert.deepEqual([run.one('first'), run.one('second')], ['EADDRINUSE', 'EADDRINUSE']);
  assert.deepEqual(run.all('again'), [['listening'], ['listening']]);
  assert.deepEqual(run.one('answers'), ['1', '2']);
});

test('workers that ask at the same time for an address that is taken all hear of it', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const taken = require('node:net').createServer().listen(0, '127.0.0.1');
      await happens(taken, 'listening');
      const workers = [1, 2, 3].map(() => cluster.fork({ PORT: taken.address().port }));
      await Promise.all(workers.map((worker) => happens(worker, 'online')));
      for (const worker of workers) worker.send('go');
      const codes = await Promise.all(workers.map((worker) => happens(worker, 'message')));
      report('codes', codes.map(([code]) => code));
      const gone = Promise.all(workers.map((worker) => happens(worker, 'exit')));
      for (const worker of workers) worker.disconnect();
      await gone;
      taken.close();
    },
    worker() {
      process.once('message', () => {
        require('node:net').createServer().on('error', (error) => process.send(error.code))
          .listen(Number(process.env.PORT), '127.0.0.1');
      });
    },
  });
  assert.deepEqual(run.one('codes'), ['EADDRINUSE', 'EADDRINUSE', 'EADDRINUSE']);
});

test('unix sockets: a path that exists, a folder that does not, a path that is too long', async () => {
  const run = await play({
    files: { 'a-file': '' },
    data: { listens: [{ path: 'a-file' }, { path: 'no/such/folder' }, { path: 'x'.repeat(200) }] },
    primary: oneWorker,
    worker: attempt,
  });
  const [exists, missing, long] = run.all('outcome');
  const outcome = ([{ code, errno, syscall, address }]) => ({ code, errno, syscall, address });
  assert.deepEqual(outcome(exists), { code: 'EADDRINUSE', errno: -98, syscall: 'bind', address: 'a-file' });
  assert.deepEqual(outcome(missing), { code: 'EACCES', errno: -13, syscall: 'bind', address: 'no/such/folder' });
  // Older Nodes cut the path off and say nothing.
  if (isStock && major < 24) return;
  assert.equal(long[1], false);
  assert.ok(['EINVAL', 'ENAMETOOLONG'].includes(long[0].code), long[0].code);
});

test('a descriptor that is no listening socket is an error in the worker', async () => {
  const run = await play({
    data: { listens: [{ fd: 999 }] },
    primary: oneWorker,
    worker: attempt,
  });
  const [[{ code, errno, syscall }, listening]] = run.all('outcome');
  assert.deepEqual({ code, syscall, listening }, { code: 'EINVAL', syscall: 'bind', listening: false });
  assert.equal(errno, -22);
});

test('an error without a listener ends that worker only', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const taken = require('node:net').createServer().listen(0, '127.0.0.1');
      await happens(taken, 'listening');
      const bad = cluster.fork({ PORT: taken.address().port });
      report('bad', ...await happens(bad, 'exit'));
      const good = cluster.fork({ PORT: 0 });
      const [{ port }] = await happens(good, 'listening');
      report('good', await ask(port));
      taken.close();
      good.disconnect();
      await happens(good, 'exit');
    },
    worker() {
      process.stderr.write = () => true;
      require('node:net').createServer((socket) => socket.end('good')).listen(Number(process.env.PORT), '127.0.0.1');
    },
  });
  assert.deepEqual(run.all('bad'), [[1, null]]);
  assert.equal(run.one('good'), 'good');
});

test('http says the same', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const taken = require('node:net').createServer().listen(0);
      await happens(taken, 'listening');
      report('port', taken.address().port);
      await happens(cluster.fork({ PORT: taken.address().port }), 'exit');
      taken.close();
    },
    worker({ cluster, report, plain }) {
      const server = require('node:http').createServer().listen(Number(process.env.PORT));
      server.on('error', (error) => {
        report('outcome', plain(error));
        cluster.worker.disconnect();
      });
    },
  });
  const { code, errno, syscall, address, port } = run.one('outcome');
  assert.deepEqual({ code, errno, syscall, port },
    { code: 'EADDRINUSE', errno: -98, syscall: 'bind', port: run.one('port') });
  assert.equal(address ?? null, null);
});
