'use strict';
// Which listens share an address, what `listening` says of it, and listening again.

const test = require('node:test');
const assert = require('node:assert/strict');
const { mechanism: mechanismHere, ours, play } = require('../support/index.cjs');

test('the address of the listening event, in each of its forms', async () => {
  const run = await play({
    data: {
      listens: [{ port: 0 }, { port: 0, host: '127.0.0.1' }, { port: 0, host: '::1' }, { port: 0, host: '0.0.0.0' },
        { port: 0, host: '::' }, { port: 0, host: 'localhost' }, { path: 'a.sock' }],
    },
    async primary({ cluster, report, happens, data }) {
      const worker = cluster.fork();
      const done = happens(worker, 'exit');
      const same = [];
      cluster.on('listening', (which, address) => same.push(address));
      for (const options of data.listens) {
        worker.send(options);
        const [address] = await happens(worker, 'listening');
        report('listening', address, Object.keys(address), same.at(-1) === address);
      }
      worker.disconnect();
      await done;
    },
    worker({ report }) {
      const servers = [];
      process.on('message', (options) => {
        const server = require('node:net').createServer().listen(options, () => report('address', server.address()));
        servers.push(server);
      });
    },
  });
  const addresses = run.all('address').map(([address]) => address);
  const listening = run.all('listening');
  const [any, four, six, any4, any6, name] = addresses.map(({ port }) => port);
  const { directory } = run;
  const [, , , , , [{ address: localhost, addressType }]] = listening;
  assert.ok((localhost === '127.0.0.1' && addressType === 4) || (localhost === '::1' && addressType === 6));
  assert.deepEqual(listening.map(([address]) => address), [
    { addressType: 4, address: null, port: any },
    { addressType: 4, address: '127.0.0.1', port: four },
    { addressType: 6, address: '::1', port: six },
    { addressType: 4, address: '0.0.0.0', port: any4 },
    { addressType: 6, address: '::', port: any6 },
    { addressType, address: localhost, port: name },
    { addressType: -1, address: `${directory}/a.sock`, port: -1 },
  ]);
  for (const [, keys, same] of listening) {
    assert.deepEqual(keys.filter((key) => key !== 'fd'), ['addressType', 'address', 'port']);
    assert.equal(same, true);
  }
  assert.deepEqual(addresses[0], { address: '::', family: 'IPv6', port: any });
  assert.deepEqual(addresses[1], { address: '127.0.0.1', family: 'IPv4', port: four });
  assert.deepEqual(addresses[2], { address: '::1', family: 'IPv6', port: six });
  assert.deepEqual(addresses[3], { address: '0.0.0.0', family: 'IPv4', port: any4 });
  assert.equal(addresses[6], 'a.sock');
});

test('port 0: the n-th listen of every worker has the n-th port, and two of one worker differ', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, everybody }) {
      const workers = [cluster.fork(), cluster.fork()];
      const ports = await Promise.all(workers.map((worker) => happens(worker, 'message')));
      report('ports', ports.map(([list]) => list));
      for (const port of ports[0][0]) report('answers', await everybody(2, () => ask(port)));
      cluster.disconnect();
    },
    worker({ cluster }) {
      const net = require('node:net');
      const ports = [];
      const next = (name) => {
        if (name === 3) return process.send(ports);
        const server = net.createServer((socket) => socket.end(`worker ${cluster.worker.id} server ${name}`));
        return server.listen(0, '127.0.0.1', () => {
          ports.push(server.address().port);
          next(name + 1);
        });
      };
      next(0);
    },
  });
  const [first, second] = run.one('ports');
  assert.deepEqual(first, second);
  assert.equal(new Set(first).size, 3);
  assert.deepEqual(run.all('answers'),
    [0, 1, 2].map((name) => [[`worker 1 server ${name}`, `worker 2 server ${name}`]]));
});

test('port 0 of different addresses and of different kinds are different ports', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      report('ports', (await happens(worker, 'message'))[0]);
      worker.disconnect();
      await happens(worker, 'exit');
    },
    async worker() {
      const net = require('node:net');
      const ports = [];
      for (const host of ['127.0.0.1', '127.0.0.2', undefined]) {
        const server = net.createServer().listen(0, host);
        await require('node:events').once(server, 'listening');
        ports.push(server.address().port);
      }
      process.send(ports);
    },
  });
  assert.equal(new Set(run.one('ports')).size, 3);
});

test('the same port twice in one worker is EADDRINUSE, on an address of one\'s own too', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      const [error] = await happens(worker, 'message');
      report('outcome', error, port);
      report('first', await ask(port));
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ plain }) {
      const net = require('node:net');
      // A fixed port that is surely free: the one that port 0 gave a moment ago.
      const probe = net.createServer().listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => {
        const { port } = probe.address();
        probe.close(() => {
          net.createServer((socket) => socket.end('first')).listen(port, '127.0.0.1', () => {
            const second = net.createServer((socket) => socket.end('second'));
            second.on('error', (error) => process.send(plain(error)));
            second.listen(port, '127.0.0.1', () => process.send('listening'));
          });
        });
      });
    },
  });
  const [[error, port]] = run.all('outcome');
  const { code, errno, syscall, address } = error;
  assert.deepEqual({ code, errno, syscall, address, port: error.port },
    { code: 'EADDRINUSE', errno: -98, syscall: 'bind', address: '127.0.0.1', port });
  assert.equal(run.one('first'), 'first');
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('different addresses of one port are different; an IPv6 wildcard beside IPv4 addresses', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const [port] = await happens(worker, 'message');
      const answers = [];
      for (const host of ['127.0.0.1', '127.0.0.2', '::1']) answers.push(await ask({ port, host }));
      report('answers', ...answers);
      worker.disconnect();
      await happens(worker, 'exit');
    },
    async worker() {
      const net = require('node:net');
      const { once } = require('node:events');
      let port = 0;
      for (const options of [{ host: '127.0.0.1' }, { host: '127.0.0.2' }, { host: '::', ipv6Only: true }]) {
        const server = net.createServer((socket) => socket.end(options.host)).listen({ port, ...options });
        await once(server, 'listening');
        ({ port } = server.address());
      }
      process.send(port);
    },
  });
  assert.deepEqual(run.all('answers'), [['127.0.0.1', '127.0.0.2', '::']]);
});

test('two different programs on one port share its connections', async () => {
  const script = (word) => `
    const server = require('net').createServer((socket) => socket.end('${word}'));
    process.once('message', (port) => server.listen(port, '127.0.0.1', () => process.send(server.address().port)));
  `;
  const run = await play({
    files: { 'a.cjs': script('A'), 'b.cjs': script('B') },
    async primary({ cluster, report, happens, ask, everybody }) {
      let port = 0;
      for (const exec of ['a.cjs', 'b.cjs']) {
        cluster.setupPrimary({ exec });
        const worker = cluster.fork();
        await happens(worker, 'online');
        worker.send(0);
        const [got] = await happens(worker, 'message');
        report('same', port === 0 || port === got);
        port = got;
      }
      report('answers', await everybody(2, () => ask(port)));
      cluster.disconnect();
    },
  });
  assert.deepEqual(run.all('same'), [[true], [true]]);
  assert.deepEqual(run.one('answers'), ['A', 'B']);
});

test('close and listen again: port 0, the same port by its number, and the neighbour goes on', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, everybody }) {
      const [one, two] = [cluster.fork(), cluster.fork()];
      const [[{ port }]] = await Promise.all([happens(one, 'listening'), happens(two, 'listening')]);
      report('before', await everybody(2, () => ask(port)));
      one.send('close');
      await happens(one, 'message');
      report('while closed', await ask(port), await ask(port), await ask(port));
      one.send({ listen: 0 });
      const [[again]] = await Promise.all([happens(one, 'listening')]);
      report('again', again.port > 0);
      report('again answers', (await everybody(2, () => ask(again.port))).join());
      cluster.disconnect();
    },
    worker({ cluster }) {
      const server = require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`));
      server.listen(0, '127.0.0.1');
      process.on('message', (message) => {
        if (message === 'close') server.close(() => process.send('closed'));
        else server.listen(message.listen, '127.0.0.1');
      });
    },
  });
  assert.deepEqual(run.one('before'), ['1', '2']);
  assert.deepEqual(run.all('while closed'), [['2', '2', '2']]);
  assert.deepEqual(run.all('again'), [[true]]);
  assert.equal(run.one('again answers'), '1,2');
});

test('close and listen again on a fixed port, many times, by one and by two workers', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask, everybody, refusal, until }) {
      const free = require('node:net').createServer().listen(0, '127.0.0.1');
      await happens(free, 'listening');
      const { port } = free.address();
      await new Promise((resolve) => free.close(resolve));
      const workers = [cluster.fork(), cluster.fork()];
      await Promise.all(workers.map((worker) => happens(worker, 'online')));
      const tell = async (worker, message) => {
        worker.send(message);
        return (await happens(worker, 'message'))[0];
      };
      for (let round = 0; round < 5; round++) {
        for (const worker of workers) report('listen', await tell(worker, { port }));
        report('answers', (await everybody(2, () => ask(port))).join());
        for (const worker of workers) report('close', await tell(worker, 'close'));
        // The primary hears of the close a moment after the worker.
        report('refused', await until(() => refusal(port), 'the port to be closed'));
      }
      cluster.disconnect();
    },
    worker({ cluster }) {
      const server = require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`));
      server.on('error', (error) => process.send(error.code));
      process.on('message', (message) => {
        if (message === 'close') server.close(() => process.send('closed'));
        else server.listen(message.port, '127.0.0.1', () => process.send('listening'));
      });
    },
  });
  assert.deepEqual(run.all('listen').flat(), new Array(10).fill('listening'));
  assert.deepEqual(run.all('close').flat(), new Array(10).fill('closed'));
  assert.deepEqual(run.all('answers').flat(), new Array(5).fill('1,2'));
  assert.deepEqual(run.all('refused').flat(), new Array(5).fill('ECONNREFUSED'));
});

test('the number that port 0 gave, asked for by another worker, is EADDRINUSE and nothing worse', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const first = cluster.fork({ PORT: 0 });
      const [{ port }] = await happens(first, 'listening');
      const second = cluster.fork({ PORT: port });
      report('second', (await happens(second, 'message'))[0]);
      report('answer', await ask(port));
      for (const worker of [first, second]) {
        worker.disconnect();
        await happens(worker, 'exit');
      }
    },
    worker() {
      require('node:net').createServer((socket) => socket.end('still there'))
        .on('error', (error) => process.send(error.code)).listen(Number(process.env.PORT), '127.0.0.1');
    },
  });
  assert.equal(run.one('second'), 'EADDRINUSE');
  assert.equal(run.one('answer'), 'still there');
});

test('only the primary holds the listening socket; in rotation each worker does, and where the kernel chooses it has one of its own', async () => {
  const run = await play({
    async primary({ cluster, report, happens, listeningPorts }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      report('ports', listeningPorts().includes(port), listeningPorts(worker.process.pid));
      worker.disconnect();
      await happens(worker, 'exit');
      report('afterwards', listeningPorts());
    },
    worker: () => require('node:net').createServer().listen(0, '127.0.0.1'),
  });
  const [[inPrimary, inWorker]] = run.all('ports');
  assert.deepEqual([inPrimary, inWorker.length], [true, mechanismHere() === 'passed' ? 0 : 1]);
  assert.deepEqual(run.all('afterwards'), [[[]]]);
});

test('a listen while the worker is disconnecting is never answered, and harms nobody', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      await happens(worker, 'listening');
      cluster.on('listening', () => report('listened'));
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ report }) {
      const net = require('node:net');
      const server = net.createServer().listen(0, '127.0.0.1');
      server.on('close', () => {
        net.createServer().listen(0, '127.0.0.1', () => report('in the worker'));
      });
    },
  });
  assert.deepEqual(run.all('exit'), [[0, null]]);
  assert.deepEqual(run.all('listened'), []);
  assert.deepEqual(run.all('in the worker'), []);
});

test('stats name the addresses', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      for (let i = 0; i < 3; i++) await ask(port);
      report('stats', cluster.stats(), port, worker.process.pid);
      worker.disconnect();
      await happens(worker, 'exit');
      report('afterwards', cluster.stats());
    },
    worker: () => require('node:net').createServer((socket) => socket.end('x')).listen(0, '127.0.0.1'),
  });
  const [[stats, port, pid]] = run.all('stats');
  assert.equal(stats.workers.length, 1);
  const [{ id, slot, pid: worker, state, delivered, waiting }] = stats.workers;
  assert.deepEqual({ id, slot, worker, state, delivered, waiting },
    { id: 1, slot: 0, worker: pid, state: 'listening', delivered: 3, waiting: 0 });
  const [{ address, mechanism, policy, accepted, reclaimed, lost }] = stats.addresses;
  assert.match(String(address), new RegExp(`127\\.0\\.0\\.1:${port}`));
  assert.deepEqual({ mechanism, policy, accepted, reclaimed, lost },
    { mechanism: mechanismHere(), policy: 'rr', accepted: 3, reclaimed: 0, lost: 0 });
  const { workers, addresses } = run.one('afterwards');
  assert.deepEqual({ workers, addresses }, { workers: [], addresses: [] });
});
