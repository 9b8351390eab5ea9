'use strict';

// Every connection has a turn and a context of its own, also when many arrive at once.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ask, connect, exactTurns, major, mechanism, receive, until } = require('../support/index.cjs');
const { startRig } = require('./fixtures/rig.cjs');

// Where Node accepts by itself, a handler that calls enterWith() does so for the connections after it, too: Node before 24 keeps
// the store with the server. It does that outside of a cluster as well.
const entersWithNone = major >= 24 || mechanism() !== 'kernel';

const crowd = (rig, size) => Promise.all(Array.from({ length: size }, (_, i) => ask(rig.port, `${i}`)));

test('AsyncLocalStorage: what one connection enters no other one sees', async (t) => {
  const rig = await startRig(t, {
    serve() {
      const { AsyncLocalStorage } = require('node:async_hooks');
      const storage = new AsyncLocalStorage();
      let number = 0;
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        const inherited = storage.getStore();
        const own = ++number;
        storage.enterWith(own);
        let text = '';
        const seen = [];
        const look = (done) => {
          seen.push(storage.getStore());
          done();
        };
        const looked = Promise.all([
          new Promise((done) => process.nextTick(look, done)),
          new Promise((done) => Promise.resolve(done).then(look)),
          new Promise((done) => setTimeout(look, 5, done)),
        ]);
        // Events of the connection itself belong to it as it was made, before the handler entered anything.
        const foreign = [];
        socket.on('data', (data) => {
          foreign.push(storage.getStore());
          text += data;
        });
        socket.on('end', () => setImmediate(() => {
          foreign.push(storage.getStore());
          const others = foreign.filter((store) => store !== undefined && store !== own);
          looked.then(() => socket.end(JSON.stringify({ text, inherited: inherited ?? null, own, seen, others })));
        }));
      }).listen(0, '127.0.0.1');
    },
  });
  const answers = (await crowd(rig, 80)).map((answer) => JSON.parse(answer));
  for (const [i, { text, inherited, own, seen, others }] of answers.entries()) {
    assert.equal(text, `${i}`);
    if (entersWithNone) assert.equal(inherited, null, 'a new connection enters with no store');
    assert.deepEqual(seen, [own, own, own]);
    assert.deepEqual(others, []);
  }
});

test('AsyncLocalStorage: what the server was made in is there for every connection alike', async (t) => {
  const rig = await startRig(t, {
    serve() {
      const { AsyncLocalStorage } = require('node:async_hooks');
      const storage = new AsyncLocalStorage();
      storage.run('of the server', () => {
        require('node:net').createServer((socket) => {
          socket.resume().end(String(storage.getStore()));
        }).listen(0, '127.0.0.1');
      });
    },
  });
  assert.equal(new Set(await crowd(rig, 40)).size, 1);
});

test('async_hooks: the events of a connection run in a resource of its own', async (t) => {
  const rig = await startRig(t, {
    serve() {
      const hooks = require('node:async_hooks');
      const sockets = new Set();
      hooks.createHook({ init: (id, type) => type === 'TCPWRAP' && sockets.add(id) }).enable();
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        const first = [hooks.executionAsyncId(), hooks.triggerAsyncId()];
        socket.once('data', () => {
          const id = hooks.executionAsyncId();
          socket.end(JSON.stringify({ id, known: sockets.has(id), first, pid: process.pid }));
        });
      }).listen(0, '127.0.0.1');
    },
  });
  const answers = (await crowd(rig, 60)).map((answer) => JSON.parse(answer));
  assert.equal(new Set(answers.map(({ id, pid }) => `${pid}:${id}`)).size, 60);
  for (const { known, first } of answers) {
    assert.equal(known, true, 'data is read in the resource of the connection');
    for (const id of first) assert.ok(Number.isInteger(id) && id >= 0, `an id: ${id}`);
  }
});

test('async_hooks: the resource of a connection that ended is destroyed', async (t) => {
  const rig = await startRig(t, {
    workers: 1,
    serve(w) {
      const hooks = require('node:async_hooks');
      const open = new Set();
      hooks.createHook({
        init: (id, type) => type === 'TCPWRAP' && open.add(id),
        destroy: (id) => open.delete(id),
      }).enable();
      w.open = () => open.size;
      require('node:net').createServer((socket) => socket.resume().end('x')).listen(0, '127.0.0.1');
    },
  });
  await crowd(rig, 40);
  await until(async () => await rig.inWorker(1, (w) => w.open()) === 0, 'no resource is left');
});

test('domain: an error reaches the domain of its own connection and no other', async (t) => {
  const rig = await startRig(t, {
    serve() {
      const domain = require('node:domain');
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        const inherited = process.domain ? 'a domain' : 'none';
        const own = domain.create();
        own.on('error', (error) => socket.end(`${inherited}, ${error.message}`));
        own.add(socket);
        socket.once('data', (data) => setImmediate(() => { throw new Error(`failed ${data}`); }));
      }).listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(await crowd(rig, 60), Array.from({ length: 60 }, (_, i) => `none, failed ${i}`));
});

test('one handler that throws does not lose its neighbours', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      let number = 0;
      process.on('uncaughtException', (error) => w.tell({ caught: error.message }));
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        if (++number % 3 === 0) {
          socket.resume().end('thrown');
          throw new Error(`thrown at connection ${number}`);
        }
        socket.pipe(socket);
      }).listen(0, '127.0.0.1');
      // A busy worker finds several connections at once when it looks again.
      w.nap = (milliseconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
    },
  });
  const napping = [1, 2].map((id) => rig.inWorker(id, (w) => w.nap(100)));
  const answers = await crowd(rig, 90);
  await Promise.all(napping);
  const thrown = answers.filter((answer) => answer === 'thrown').length;
  for (const [i, answer] of answers.entries()) assert.ok(answer === 'thrown' || answer === `${i}`, answer);
  assert.ok(thrown >= 28 && thrown <= 30, `${thrown} of 90 were thrown`);
  await until(() => rig.allTold((value) => value.caught).length >= thrown, 'each error was caught');
  assert.equal(rig.allTold((value) => value.caught).length, thrown);
});

test('a handler that throws with nobody to catch it ends its worker; the neighbours answer', async (t) => {
  const rig = await startRig(t, {
    workers: 3,
    env: exactTurns(), // each of two neighbours has some of forty
    serve(w) {
      require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('error', () => {});
        socket.once('data', (data) => {
          if (String(data) === 'die') {
            // Only the report on standard error is left out.
            process.once('uncaughtExceptionMonitor', () => process.stderr.destroy());
            throw new Error('this worker is to die');
          }
          socket.end(`${w.id}`);
        });
      }).listen(0, '127.0.0.1');
    },
    settings: { silent: true },
  });
  const dying = await connect(rig.port);
  const end = receive(dying).catch((error) => error.code);
  dying.write('die');
  const { id, code } = await rig.event('exit');
  assert.notEqual(code, 0);
  assert.ok(['', 'ECONNRESET'].includes(await end));
  const counts = new Set(await crowd(rig, 40));
  assert.equal(counts.has(`${id}`), false);
  assert.equal(counts.size, 2);
});

test('ticks and microtasks of one connection run before the next connection', async (t) => {
  const rig = await startRig(t, {
    workers: 1,
    serve(w) {
      const order = [];
      let number = 0;
      require('node:net').createServer((socket) => {
        const own = ++number;
        order.push(`connection ${own}`);
        process.nextTick(() => {
          order.push(`tick ${own}`);
          Promise.resolve().then(() => order.push(`microtask of the tick ${own}`));
        });
        queueMicrotask(() => {
          order.push(`microtask ${own}`);
          process.nextTick(() => order.push(`tick of the microtask ${own}`));
        });
        socket.resume().end('x');
      }).listen(0, '127.0.0.1');
      w.order = () => order;
      w.nap = (milliseconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
    },
  });
  const napping = rig.inWorker(1, (w) => w.nap(200));
  await crowd(rig, 50);
  await napping;
  const order = await rig.inWorker(1, (w) => w.order());
  const expected = (i) => [
    `connection ${i}`, `tick ${i}`, `microtask ${i}`, `microtask of the tick ${i}`, `tick of the microtask ${i}`,
  ];
  assert.equal(order.length, 250);
  for (let i = 1; i <= 50; i++) {
    const own = order.slice((i - 1) * 5, i * 5);
    assert.equal(own[0], expected(i)[0]);
    assert.deepEqual([...own].sort(), expected(i).sort());
  }
});
