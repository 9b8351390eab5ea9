'use strict';
// The options of listen, and what a server in a worker can do besides.

const test = require('node:test');
const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { major, play } = require('../support/index.cjs');

test('listen({ fd }) is the primary\'s descriptor, shared by all who name it', async () => {
  // A listening socket that the primary was started with, as a supervisor would pass it.
  const own = net.createServer().listen(0, '127.0.0.1');
  await once(own, 'listening');
  const { port } = own.address();
  const run = await play({
    stdio: [own._handle.fd],
    data: port,
    async primary({ cluster, report, happens, ask, everybody, listeningPorts, data: port }) {
      const workers = [cluster.fork(), cluster.fork()];
      const addresses = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
      report('addresses', addresses.map(([address]) => address));
      report('worker', (await Promise.all(workers.map((worker) => {
        worker.send('address');
        return happens(worker, 'message');
      }))).map(([address]) => address));
      report('answers', await everybody(2, () => ask(port)));
      report('ports', listeningPorts());
      for (const worker of workers) {
        worker.disconnect();
        await happens(worker, 'exit');
      }
    },
    worker({ cluster }) {
      const server = require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`));
      server.listen({ fd: 3 });
      process.on('message', () => process.send(server.address()));
    },
  }, () => own.close());
  for (const address of run.one('addresses')) assert.deepEqual([address.fd, address.port], [3, port]);
  for (const address of run.one('worker')) assert.deepEqual(address, { address: '127.0.0.1', family: 'IPv4', port });
  assert.ok(run.one('ports').includes(port));
  assert.deepEqual(run.one('answers'), ['1', '2']);
});

test('exclusive: each worker has a socket of its own, of which the primary knows nothing', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, listeningPorts }) {
      const workers = [cluster.fork(), cluster.fork()];
      cluster.on('listening', () => report('listening'));
      const ports = (await Promise.all(workers.map((worker) => happens(worker, 'message')))).map(([port]) => port);
      report('own', ports[0] !== ports[1], listeningPorts(),
        workers.map((worker, i) => listeningPorts(worker.process.pid).includes(ports[i])));
      report('answers', await ask(ports[0]), await ask(ports[1]));
      for (const worker of workers) {
        worker.send('end');
        report('exit', ...await happens(worker, 'exit'));
      }
    },
    worker({ cluster }) {
      const server = require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`));
      server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => process.send(server.address().port));
      process.once('message', () => server.close(() => cluster.worker.disconnect()));
    },
  });
  assert.deepEqual(run.all('own'), [[true, [], [true, true]]]);
  assert.deepEqual(run.all('answers'), [['1', '2']]);
  assert.deepEqual(run.all('listening'), []);
  assert.deepEqual(run.all('exit'), [[0, null], [0, null]]);
});

test('a handle of one\'s own bypasses the primary', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const [port, server] = await happens(worker, 'message');
      report('answer', await ask(port), server === null || server === undefined);
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      const net = require('node:net');
      const first = net.createServer().listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
        const second = net.createServer((socket) => socket.end('by the handle'));
        second.listen(first._handle, () => process.send(second.address().port));
        process.once('disconnect', () => second.close());
      });
    },
  });
  assert.deepEqual(run.all('answer'), [['by the handle', true]]);
});

test('ipv6Only reaches the primary\'s socket, under both policies', async () => {
  for (const policy of ['rr', 'none']) {
    const run = await play({
      env: { NODE_CLUSTER_SCHED_POLICY: policy },
      async primary({ cluster, report, happens, ask, refusal }) {
        const worker = cluster.fork();
        const [only, both] = (await happens(worker, 'message'))[0];
        report('only', await ask({ port: only, host: '::1' }), await refusal({ port: only, host: '127.0.0.1' }));
        report('both', await ask({ port: both, host: '::1' }), await ask({ port: both, host: '127.0.0.1' }));
        worker.disconnect();
        await happens(worker, 'exit');
      },
      async worker() {
        const net = require('node:net');
        const ports = [];
        for (const ipv6Only of [true, false]) {
          const server = net.createServer((socket) => socket.end('six')).listen({ port: 0, host: '::', ipv6Only });
          await require('node:events').once(server, 'listening');
          ports.push(server.address().port);
        }
        process.send(ports);
      },
    });
    assert.deepEqual(run.all('only'), [['six', 'ECONNREFUSED']], policy);
    assert.deepEqual(run.all('both'), [['six', 'six']], policy);
  }
});

test('backlog is that of the first who asked', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const { readFileSync } = require('node:fs');
      // The second field of a listening socket's queue is its backlog in the output of ss; /proc has it nowhere.
      const backlog = (port) => {
        const out = require('node:child_process').spawnSync('ss', ['-Hltn', `sport = :${port}`], { encoding: 'utf8' });
        return out.status === 0 ? Number(out.stdout.trim().split(/\s+/)[2]) : null;
      };
      const first = cluster.fork({ BACKLOG: 7 });
      const [{ port }] = await happens(first, 'listening');
      const second = cluster.fork({ BACKLOG: 40 });
      await happens(second, 'listening');
      const fallback = cluster.fork({ BACKLOG: '' });
      const [{ port: usual }] = await happens(fallback, 'listening');
      const limit = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));
      report('backlog', backlog(port), backlog(usual), Math.min(511, limit));
      cluster.disconnect();
    },
    worker() {
      const { BACKLOG } = process.env;
      const where = BACKLOG === '' ? { host: '127.0.0.2' } : { host: '127.0.0.1', backlog: Number(BACKLOG) };
      require('node:net').createServer().listen({ port: 0, ...where });
    },
  });
  const [[asked, usual, standard]] = run.all('backlog');
  if (asked !== null) assert.deepEqual([asked, usual], [7, standard]);
});

test('an AbortSignal closes the server, and the primary hears of it', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, until, refusal }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      report('answer', await ask(port));
      worker.send('abort');
      await happens(worker, 'message');
      report('refused', await until(() => refusal(port), 'the port to be closed'));
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ report }) {
      const controller = new AbortController();
      const net = require('node:net');
      const server = net.createServer((socket) => socket.end('open'));
      server.listen({ port: 0, host: '127.0.0.1', signal: controller.signal });
      server.on('close', () => process.send('closed'));
      server.on('error', () => report('error'));
      process.once('message', () => controller.abort());
      // One that was aborted before it began never listens.
      const never = net.createServer().listen({ port: 0, host: '127.0.0.1', signal: AbortSignal.abort() });
      never.on('close', () => report('never', never.listening));
    },
  });
  assert.equal(run.one('answer'), 'open');
  assert.equal(run.one('refused'), 'ECONNREFUSED');
  assert.deepEqual(run.all('exit'), [[0, null]]);
  assert.deepEqual(run.all('error'), []);
  assert.deepEqual(run.all('never'), [[false]]);
});

test('a listening server keeps its worker alive, and unref lets it go', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const kept = cluster.fork({ HOW: 'ref' });
      const [{ port }] = await happens(kept, 'listening');
      report('kept', await ask(port), await ask(port));
      const exit = happens(kept, 'exit');
      kept.send('unref');
      report('let go', ...await exit);
      const at = cluster.fork({ HOW: 'unref' });
      report('at once', ...await happens(at, 'exit'));
      const back = cluster.fork({ HOW: 'both' });
      const [address] = await happens(back, 'listening');
      report('ref again', await ask(address.port));
      back.disconnect();
      report('back', ...await happens(back, 'exit'));
    },
    worker() {
      const server = require('node:net').createServer((socket) => socket.end('alive')).listen(0, '127.0.0.1', () => {
        if (process.env.HOW !== 'ref') server.unref();
        if (process.env.HOW === 'both') server.ref();
        process.once('message', () => server.unref());
        // Without its channel the worker has nothing but its server to live for.
        process.channel.unref();
      });
    },
  });
  assert.deepEqual(run.all('kept'), [['alive', 'alive']]);
  assert.deepEqual(run.all('let go'), [[0, null]]);
  assert.deepEqual(run.all('at once'), [[0, null]]);
  assert.equal(run.one('ref again'), 'alive');
  assert.deepEqual(run.all('back'), [[0, null]]);
});

test('close: the callback comes, getConnections counts, listening and address say so', async () => {
  const run = await play({
    async primary({ cluster, report, happens, connect }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      const clients = [await connect(port), await connect(port)];
      for (const client of clients) await happens(client, 'data');
      worker.send('count');
      report('connections', (await happens(worker, 'message'))[0]);
      worker.send('close');
      for (const client of clients) client.end();
      report('closed', (await happens(worker, 'message'))[0]);
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      const server = require('node:net').createServer((socket) => {
        socket.write('hello');
        socket.resume();
      }).listen(0, '127.0.0.1');
      process.on('message', (message) => {
        if (message === 'count') {
          server.getConnections((error, count) => process.send({ error, count, listening: server.listening }));
        } else {
          const tell = (error) => ({ code: error?.code, listening: server.listening, address: server.address() });
          server.close((error) => {
            const first = tell(error);
            server.close((again) => process.send({ first, second: tell(again) }));
          });
        }
      });
    },
  });
  assert.deepEqual(run.one('connections'), { error: null, count: 2, listening: true });
  assert.deepEqual(run.one('closed'), {
    first: { listening: false, address: null },
    second: { code: 'ERR_SERVER_NOT_RUNNING', listening: false, address: null },
  });
});

const hasReusePort = major >= 23 || (major === 22 && Number(process.versions.node.split('.')[1]) >= 12);
const reusePort = { skip: !hasReusePort && 'this Node has no reusePort' };
test('reusePort makes it exclusive: sockets of the workers\' own', reusePort, async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, listeningPorts }) {
      cluster.on('listening', () => report('listening'));
      const first = cluster.fork({ PORT: 0 });
      const [port] = await happens(first, 'message');
      const second = cluster.fork({ PORT: port });
      await happens(second, 'message');
      report('sockets', listeningPorts(),
        [first, second].map((worker) => listeningPorts(worker.process.pid).includes(port)));
      report('answer', /^[12]$/.test(await ask(port)));
      for (const worker of [first, second]) {
        worker.send('end');
        await happens(worker, 'exit');
      }
    },
    worker({ cluster }) {
      const server = require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`));
      server.listen({ port: Number(process.env.PORT), host: '127.0.0.1', reusePort: true });
      server.on('listening', () => process.send(server.address().port));
      process.once('message', () => server.close(() => cluster.worker.disconnect()));
    },
  });
  assert.deepEqual(run.all('sockets'), [[[], [true, true]]]);
  assert.equal(run.one('answer'), true);
  assert.deepEqual(run.all('listening'), []);
});

test('several servers of several kinds in one worker', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, request, directory }) {
      const workers = [cluster.fork(), cluster.fork()];
      const [[ports]] = await Promise.all(workers.map((worker) => happens(worker, 'message')));
      for (let round = 0; round < 4; round++) {
        report('answers', await ask(ports[0]), (await request(ports[1])).body, await ask(`${directory}/c.sock`));
      }
      cluster.disconnect();
    },
    async worker() {
      const { once } = require('node:events');
      const net = require('node:net').createServer((socket) => socket.end('net')).listen(0, '127.0.0.1');
      await once(net, 'listening');
      const http = require('node:http').createServer((asked, answer) => answer.end('http')).listen(0, '127.0.0.1');
      await once(http, 'listening');
      const unix = require('node:net').createServer((socket) => socket.end('unix')).listen('c.sock');
      await once(unix, 'listening');
      process.send([net.address().port, http.address().port]);
    },
  });
  assert.deepEqual(run.all('answers'), new Array(4).fill(['net', 'http', 'unix']));
});

test('an IPv4 address that is written as IPv6 is the IPv4 address', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const [{ address, port }] = await happens(worker, 'listening');
      report('answer', address, await ask({ port, host: '127.0.0.1' }));
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      require('node:net').createServer((socket) => socket.end('served')).listen(0, '::ffff:127.0.0.1');
    },
  });
  assert.deepEqual(run.all('answer'), [['::ffff:127.0.0.1', 'served']]);
});
