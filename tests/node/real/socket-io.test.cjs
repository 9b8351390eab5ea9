'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, play } = require('../support/index.cjs');

// These clients use the websocket transport only: the polling one needs each request of a client at the same worker.
test('socket.io: broadcasts, rooms and acknowledgements reach the clients of all workers', async () => {
  const run = await play({
    async primary({ cluster, report, happens, until }) {
      const { setupPrimary } = require('@socket.io/cluster-adapter');
      const { io } = require('socket.io-client');
      setupPrimary();
      cluster.setupPrimary({ serialization: 'advanced' }); // For packets with binary in them.
      const workers = [1, 2, 3].map(() => cluster.fork());
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));

      const clients = [];
      const pids = new Set();
      await until(async () => {
        const options = { transports: ['websocket'], forceNew: true, reconnection: false };
        const socket = io(`http://127.0.0.1:${port}`, options);
        const [pid] = await happens(socket, 'hello');
        clients.push({ socket, pid });
        return pids.add(pid).size === 3;
      }, 'a client at each worker');
      report('clients', pids.size);
      const [first, second] = clients.filter(({ pid }, i) => clients.findIndex((one) => one.pid === pid) === i);

      // The workers find each other by messages of their own; after that everybody knows of everybody.
      const inSight = () => first.socket.timeout(10_000).emitWithAck('count');
      await until(async () => await inSight() === clients.length, 'all sockets in sight of each worker');

      const heard = (event) => Promise.all(clients.map(({ socket }) => happens(socket, event)));
      const bytes = Buffer.from([0, 1, 2, 255]);
      const all = heard('news');
      first.socket.emit('tell', 'news', bytes);
      report('news', (await all).filter(([data]) => bytes.equals(data)).length - clients.length);

      // A room with members at two workers.
      for (const { socket } of [first, second]) await socket.timeout(10_000).emitWithAck('join', 'room');
      const members = Promise.all([first, second].map(({ socket }) => happens(socket, 'secret')));
      const strangers = [];
      for (const { socket } of clients) socket.on('secret', () => strangers.push(socket));
      const outside = clients.find(({ pid }) => pid !== first.pid && pid !== second.pid);
      outside.socket.emit('whisper', 'room', 'secret', 'to two');
      report('secret', ...(await members).map(([data]) => data));
      // What comes after the whisper has overtaken nothing, so whoever has not heard it by now will not.
      const after = heard('news');
      outside.socket.emit('tell', 'news', bytes);
      await after;
      report('heard', strangers.length);

      // The server asks all clients of all workers, and collects what they acknowledge.
      for (const { socket, pid } of clients) socket.on('question', (acknowledge) => acknowledge(pid));
      const acknowledged = await second.socket.timeout(20_000).emitWithAck('ask everybody');
      report('acknowledged', new Set(acknowledged).size, acknowledged.length - clients.length);

      for (const { socket } of clients) socket.close();
      const exits = workers.map((worker) => happens(worker, 'exit'));
      for (const worker of workers) worker.disconnect();
      report('exits', ...await Promise.all(exits));
    },
    worker({ cluster }) {
      const http = require('node:http');
      const { Server } = require('socket.io');
      const { createAdapter } = require('@socket.io/cluster-adapter');
      const server = http.createServer();
      const io = new Server(server, { transports: ['websocket'], adapter: createAdapter() });
      io.on('connection', (socket) => {
        socket.on('count', async (acknowledge) => acknowledge((await io.fetchSockets()).length));
        socket.on('tell', (event, data) => io.emit(event, data));
        socket.on('join', async (room, acknowledge) => {
          await socket.join(room);
          acknowledge();
        });
        socket.on('whisper', (room, event, data) => io.to(room).emit(event, data));
        socket.on('ask everybody', async (acknowledge) => {
          acknowledge(await io.timeout(15_000).emitWithAck('question'));
        });
        socket.emit('hello', process.pid);
      });
      // The adapter's timers would keep a worker going for as long as its longest deadline.
      cluster.worker.on('disconnect', () => process.exit());
      server.listen(0, '127.0.0.1');
    },
  });
  assert.equal(run.one('clients'), 3);
  assert.equal(run.one('news'), 0);
  assert.deepEqual(run.all('secret'), [['to two', 'to two']]);
  assert.equal(run.one('heard'), 2);
  assert.deepEqual(run.all('acknowledged'), [[3, 0]]);
  assert.deepEqual(run.all('exits')[0], Array(3).fill([0, null]));
});

// Each request is on a connection of its own and comes from the client's own address.
test('socket.io: clients that only poll keep their worker under SCHED_SOURCE_HASH', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const { Agent } = require('node:http');
      const { io } = require('socket.io-client');
      cluster.schedulingPolicy = cluster.SCHED_SOURCE_HASH;
      const workers = [1, 2, 3].map(() => cluster.fork());
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));

      const pids = new Set();
      const failed = [];
      const clients = Array.from({ length: 24 }, (_, i) => {
        const agent = new Agent({ localAddress: `127.0.0.${i + 2}`, keepAlive: false });
        const options = { transports: ['polling'], agent, forceNew: true, reconnection: false };
        return io(`http://127.0.0.1:${port}`, options)
          .on('connect_error', (error) => failed.push(error.message))
          .on('disconnect', (reason) => failed.push(reason));
      });
      for (const [i, client] of clients.entries()) {
        if (!client.connected && failed.length === 0) await happens(client, 'connect');
        for (let round = 0; round < 5; round++) {
          const [text, pid] = await client.timeout(10_000).emitWithAck('echo', `${i} ${round}`);
          if (text !== `${i} ${round}`) failed.push(`${text} instead of ${i} ${round}`);
          pids.add(pid);
        }
      }
      report('failed', failed);
      report('workers', pids.size, clients.filter(({ io }) => io.engine.transport.name === 'polling').length);
      for (const client of clients) client.off('disconnect');
      const exits = workers.map((worker) => happens(worker, 'exit'));
      for (const worker of workers) worker.send('end');
      report('exits', ...await Promise.all(exits));
    },
    worker({ cluster }) {
      const { Server } = require('socket.io');
      const server = require('node:http').createServer();
      const io = new Server(server, { transports: ['polling'] });
      io.on('connection', (socket) => socket.on('echo', (text, acknowledge) => acknowledge([text, process.pid])));
      // The clients' polls are answered with the end, so that none is waited for.
      process.once('message', () => io.close(() => cluster.worker.disconnect()));
      server.listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(run.one('failed'), []);
  assert.deepEqual(run.all('workers'), [[3, 24]]);
  assert.deepEqual(run.all('exits')[0], Array(3).fill([0, null]));
});
