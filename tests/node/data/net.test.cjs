'use strict';

// What arrives at a worker is what was sent, in both directions, and the options of net.Server hold for it.

const test = require('node:test');
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { ask, until } = require('../support/index.cjs');
const { exchange, hold, release } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const MEGABYTE = 1 << 20;
const digest = (data) => crypto.createHash('sha256').update(data).digest('hex');

test('large bodies come back whole from an echo server, many at a time', async (t) => {
  const rig = await startRig(t, {
    workers: 3,
    serve() {
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    },
  });
  await Promise.all(Array.from({ length: 12 }, async (_, i) => {
    const sent = crypto.randomBytes(3 * MEGABYTE + 977 * i);
    const received = await exchange({ port: rig.port }, sent);
    assert.equal(received.length, sent.length);
    assert.equal(digest(received), digest(sent));
  }));
});

test('each connection reaches one worker, complete, and nobody else', async (t) => {
  const rig = await startRig(t, {
    workers: 4,
    serve(w) {
      const hash = require('node:crypto').createHash;
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        const sum = hash('sha256');
        socket.on('data', (data) => sum.update(data));
        socket.on('end', () => {
          const digest = sum.digest('hex');
          w.tell({ digest });
          socket.end(digest);
        });
      }).listen(0, '127.0.0.1');
    },
  });
  const bodies = Array.from({ length: 120 }, (_, i) => crypto.randomBytes(1 + i * 701));
  const answers = await Promise.all(bodies.map((body) => exchange({ port: rig.port }, body)));
  assert.deepEqual(answers.map(String), bodies.map(digest));
  await until(() => rig.allTold((value) => value.digest).length >= bodies.length, 'all workers have reported');
  const told = rig.allTold((value) => value.digest).map((value) => value.digest);
  assert.deepEqual(told.sort(), bodies.map(digest).sort());
});

test('bytes that the client sent before anybody accepted are all there', async (t) => {
  const rig = await startRig(t, {
    workers: 2,
    serve() {
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    },
  });
  const pairs = await Promise.all(Array.from({ length: 60 }, async (_, i) => {
    const text = `${i}:${'x'.repeat(i)}`;
    return [await ask(rig.port, text), text];
  }));
  for (const [received, sent] of pairs) assert.equal(received, sent);
});

test('allowHalfOpen: the worker answers after the client\'s end; without it by an end of its own', async (t) => {
  for (const allowHalfOpen of [true, false]) {
    const rig = await startRig(t, {
      options: { allowHalfOpen },
      serve(w, options) {
        require('node:net').createServer(options, (socket) => {
          socket.on('error', () => {});
          socket.resume().on('end', () => setImmediate(() => {
            w.tell({ allowHalfOpen: socket.allowHalfOpen, ended: socket.writableEnded });
            if (!socket.writableEnded) socket.end('late');
          }));
        }).listen(0, '127.0.0.1');
      },
    });
    assert.equal(await ask(rig.port, 'x'), allowHalfOpen ? 'late' : '');
    assert.deepEqual(await rig.told(), { allowHalfOpen, ended: !allowHalfOpen });
    await rig.finish();
  }
});

test('pauseOnConnect: nothing is read before the program resumes, also not what is there already', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      const sockets = [];
      require('node:net').createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
        sockets.push(socket);
        socket.on('data', (data) => socket.write(data));
        socket.on('end', () => socket.end());
        w.tell({ paused: socket.isPaused(), read: socket.bytesRead });
      }).listen(0, '127.0.0.1');
      w.resume = () => sockets.map((socket) => {
        const read = socket.bytesRead;
        socket.resume();
        return read;
      });
    },
  });
  const answers = [0, 1, 2, 3].map((i) => ask(rig.port, `payload ${i}`));
  await until(() => rig.allTold().length === 4, 'four connections');
  for (const value of rig.allTold()) assert.deepEqual(value, { paused: true, read: 0 });
  const reads = [...await rig.inWorker(1, (w) => w.resume()), ...await rig.inWorker(2, (w) => w.resume())];
  assert.deepEqual(reads, [0, 0, 0, 0]);
  assert.deepEqual(await Promise.all(answers), [0, 1, 2, 3].map((i) => `payload ${i}`));
});

test('a worker can pass a paused connection on to a process of its own', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      const { fork } = require('node:child_process');
      const child = fork(require.resolve('./handed-over.cjs'), [], { execArgv: [] });
      require('node:net').createServer({ pauseOnConnect: true }, (socket) => child.send(w.id, socket))
        .listen(0, '127.0.0.1');
      process.once('disconnect', () => child.disconnect());
      w.child = child.pid;
    },
  });
  const children = [await rig.inWorker(1, (w) => w.child), await rig.inWorker(2, (w) => w.child)];
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => ask(rig.port, `${i}`)));
  for (const [i, answer] of answers.entries()) {
    const { data, worker, pid, isPrimary } = JSON.parse(answer);
    assert.equal(data, `${i}`);
    assert.equal(pid, children[worker - 1]);
    assert.equal(isPrimary, true, 'a grandchild is no worker');
  }
});

test('highWaterMark of the server is that of its connections', async (t) => {
  const rig = await startRig(t, {
    serve() {
      require('node:net').createServer({ highWaterMark: 4321 }, (socket) => {
        socket.end(`${socket.readableHighWaterMark} ${socket.writableHighWaterMark}`);
      }).listen(0, '127.0.0.1');
    },
  });
  assert.equal(await ask(rig.port), '4321 4321');
});

test('noDelay and keepAlive are set on the connection itself', async (t) => {
  // Only the kernel knows; the worker lends the connection to a program that can ask it.
  const { spawnSync } = require('node:child_process');
  if (spawnSync('perl', ['-MSocket', '-e', '1']).status !== 0) return t.skip('there is no perl with Socket');
  for (const on of [true, false]) {
    const rig = await startRig(t, {
      options: { allowHalfOpen: true, noDelay: on, keepAlive: on, keepAliveInitialDelay: 77_000 },
      serve(w, options) {
        const { spawn } = require('node:child_process');
        const script = 'print join " ", map { unpack "i", getsockopt(STDIN, $_->[0], $_->[1]) }' +
          '[IPPROTO_TCP, TCP_NODELAY], [SOL_SOCKET, SO_KEEPALIVE], [IPPROTO_TCP, 4]';
        require('node:net').createServer(options, (socket) => {
          const child = spawn('perl', ['-MSocket=:all', '-e', script], { stdio: [socket, 'pipe', 'inherit'] });
          child.stdout.on('data', (data) => socket.write(data)).on('end', () => socket.end());
          socket.resume();
        }).listen(0, '127.0.0.1');
      },
    });
    const [noDelay, keepAlive, idle] = (await ask(rig.port)).split(' ').map(Number);
    assert.equal(noDelay !== 0, on);
    assert.equal(keepAlive !== 0, on);
    if (on) assert.equal(idle, 77);
    await rig.finish();
  }
});

test('connections of a worker that were closed leave no descriptor in it', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      const { readdirSync } = require('node:fs');
      require('node:net').createServer((socket) => socket.end('x')).listen(0, '127.0.0.1');
      w.count = () => readdirSync('/proc/self/fd').length;
    },
  });
  for (let i = 0; i < 4; i++) await ask(rig.port);
  const count = async () => [await rig.inWorker(1, (w) => w.count()), await rig.inWorker(2, (w) => w.count())];
  let before = await count();
  await until(async () => {
    const now = await count();
    const settled = now.every((value, i) => value === before[i]);
    before = now;
    return settled;
  }, 'a number of descriptors that stands still');
  for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 20 }, () => ask(rig.port)));
  await until(async () => (await count()).every((value, i) => value <= before[i]), 'as many descriptors as before');
});

test('a connection that the client resets while it waits harms nobody', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      require('node:net').createServer((socket) => {
        socket.on('error', () => {});
        socket.write(`${w.id}`);
      }).listen(0, '127.0.0.1');
    },
  });
  const net = require('node:net');
  await Promise.all(Array.from({ length: 60 }, () => new Promise((resolve) => {
    const socket = net.connect(rig.port, '127.0.0.1', () => socket.resetAndDestroy());
    socket.on('error', () => {}).on('close', resolve);
  })));
  const held = await Promise.all(Array.from({ length: 20 }, () => hold({ port: rig.port })));
  for (const id of ['1', '2']) {
    await until(async () => {
      held.push(await hold({ port: rig.port }));
      return held.at(-1).greeting === id;
    }, `worker ${id} answers`);
  }
  await release(held);
});
