'use strict';
// UDP: one socket of the primary's, shared by the workers as in Node, under both policies.

const test = require('node:test');
const assert = require('node:assert/strict');
const { play } = require('../support/index.cjs');

// Sends a number of datagrams one by one and gives what came back.
async function exchange({ report, happens, port, count }) {
  const client = require('node:dgram').createSocket('udp4').bind(0, '127.0.0.1');
  await happens(client, 'listening');
  const answers = [];
  for (let i = 0; i < count; i++) {
    const answer = happens(client, 'message');
    client.send(`datagram ${i}`, port, '127.0.0.1');
    answers.push(String((await answer)[0]));
  }
  client.close();
  report('answers', answers);
}

for (const policy of ['rr', 'none']) {
  test(`workers share a bound UDP socket (${policy})`, async () => {
    const run = await play({
      env: { NODE_CLUSTER_SCHED_POLICY: policy },
      files: { 'exchange.cjs': `module.exports = ${exchange}` },
      async primary({ cluster, report, happens, directory }) {
        const workers = [cluster.fork(), cluster.fork()];
        const addresses = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
        report('addresses', addresses.map(([address]) => address));
        const [[{ port }]] = addresses;
        await require(`${directory}/exchange.cjs`)({ report, happens, port, count: 6 });
        workers[0].disconnect();
        await happens(workers[0], 'exit');
        await require(`${directory}/exchange.cjs`)({ report, happens, port, count: 3 });
        workers[1].disconnect();
        report('exit', ...await happens(workers[1], 'exit'));
      },
      worker({ cluster, report }) {
        const socket = require('node:dgram').createSocket('udp4');
        socket.on('message', (message, { port, address }) => {
          socket.send(`${cluster.worker.id} got ${message}`, port, address);
        });
        socket.bind(0, '127.0.0.1', () => report('bound', socket.address()));
      },
    });
    const [first, second] = run.one('addresses');
    assert.deepEqual(first, second);
    assert.deepEqual(first, { addressType: 'udp4', address: '127.0.0.1', port: first.port, fd: -1 });
    assert.deepEqual(run.all('bound'), new Array(2).fill([{ address: '127.0.0.1', family: 'IPv4', port: first.port }]));
    const [[both], [last]] = run.all('answers');
    assert.deepEqual(both.map((one) => one.replace(/^[12] /, '')), [0, 1, 2, 3, 4, 5].map((i) => `got datagram ${i}`));
    assert.deepEqual(last, [0, 1, 2].map((i) => `2 got datagram ${i}`));
    assert.deepEqual(run.all('exit'), [[0, null]]);
  });
}

test('an exclusive UDP socket is the worker\'s own', async () => {
  const run = await play({
    files: { 'exchange.cjs': `module.exports = ${exchange}` },
    async primary({ cluster, report, happens, directory }) {
      cluster.on('listening', () => report('listening'));
      const workers = [cluster.fork(), cluster.fork()];
      const ports = (await Promise.all(workers.map((worker) => happens(worker, 'message')))).map(([port]) => port);
      report('differ', ports[0] !== ports[1]);
      for (const port of ports) await require(`${directory}/exchange.cjs`)({ report, happens, port, count: 2 });
      for (const worker of workers) {
        worker.send('close');
        await happens(worker, 'exit');
      }
    },
    worker({ cluster }) {
      const socket = require('node:dgram').createSocket('udp4');
      socket.on('message', (message, { port, address }) => socket.send(`${cluster.worker.id}`, port, address));
      socket.bind({ port: 0, address: '127.0.0.1', exclusive: true }, () => process.send(socket.address().port));
      process.once('message', () => {
        socket.close();
        cluster.worker.disconnect();
      });
    },
  });
  assert.deepEqual(run.all('differ'), [[true]]);
  assert.deepEqual(run.all('listening'), []);
  assert.deepEqual(run.all('answers'), [[['1', '1']], [['2', '2']]]);
});

test('a UDP port that others hold is EADDRINUSE in the worker', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const taken = require('node:dgram').createSocket('udp4').bind(0, '127.0.0.1');
      await happens(taken, 'listening');
      const { port } = taken.address();
      const worker = cluster.fork({ PORT: port });
      report('error', (await happens(worker, 'message'))[0], port);
      taken.close();
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker({ plain }) {
      const socket = require('node:dgram').createSocket('udp4');
      socket.on('error', (error) => process.send(plain(error)));
      socket.bind(Number(process.env.PORT), '127.0.0.1');
    },
  });
  const [[{ code, errno, syscall, address, port }, wanted]] = run.all('error');
  assert.deepEqual({ code, errno, syscall, address, port },
    { code: 'EADDRINUSE', errno: -98, syscall: 'bind', address: '127.0.0.1', port: wanted });
});

test('UDP and TCP on one port of one worker', async () => {
  const run = await play({
    files: { 'exchange.cjs': `module.exports = ${exchange}` },
    async primary({ cluster, report, happens, ask, directory }) {
      const worker = cluster.fork();
      const [port] = await happens(worker, 'message');
      report('tcp', await ask(port));
      await require(`${directory}/exchange.cjs`)({ report, happens, port, count: 1 });
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      const server = require('node:net').createServer((connection) => connection.end('tcp'));
      server.listen(0, '127.0.0.1', () => {
        const { port } = server.address();
        const socket = require('node:dgram').createSocket('udp4');
        socket.on('message', (message, from) => socket.send('udp', from.port, from.address));
        socket.on('error', () => process.send(0));
        socket.bind(port, '127.0.0.1', () => process.send(port));
      });
    },
  });
  assert.equal(run.one('tcp'), 'tcp');
  assert.deepEqual(run.all('answers'), [[['udp']]]);
});

for (const policy of ['rr', 'none']) {
  test(`a UDP socket that the primary has inherited, bound by its number (${policy})`, async () => {
    const socket = require('node:dgram').createSocket('udp4');
    await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
    // What comes is for the workers, not for the process of the test.
    const state = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol');
    const { handle } = socket[state];
    handle.recvStop();
    const { port } = socket.address();
    try {
      const run = await play({
        stdio: [handle.fd],
        env: { NODE_CLUSTER_SCHED_POLICY: policy },
        data: { port },
        files: { 'exchange.cjs': `module.exports = ${exchange}` },
        async primary({ cluster, report, happens, directory, data: { port } }) {
          const workers = [cluster.fork(), cluster.fork()];
          await Promise.all(workers.map((worker) => happens(worker, 'listening')));
          await require(`${directory}/exchange.cjs`)({ report, happens, port, count: 4 });
          for (const worker of workers) {
            worker.disconnect();
            await happens(worker, 'exit');
          }
        },
        worker({ report }) {
          const socket = require('node:dgram').createSocket('udp4');
          socket.on('error', (error) => report('error', error.message));
          socket.on('message', (message, from) => socket.send(`got ${message}`, from.port, from.address));
          socket.bind({ fd: 3 }, () => report('bound', socket.address().port));
        },
      });
      assert.deepEqual(run.all('error'), []);
      assert.deepEqual(run.all('bound'), [[port], [port]]);
      assert.deepEqual(run.all('answers'), [[[0, 1, 2, 3].map((i) => `got datagram ${i}`)]]);
    } finally {
      socket.close();
    }
  });
}

test('a port may be a text, as in an environment variable', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      report('listening', (await happens(worker, 'listening'))[0].addressType);
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker() {
      require('node:dgram').createSocket('udp4').bind({ port: '0', address: '127.0.0.1' });
    },
  });
  assert.equal(run.one('listening'), 'udp4');
  assert.deepEqual(run.all('exit'), [[0, null]]);
});
