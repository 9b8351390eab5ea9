'use strict';

// maxConnections: a full worker leaves its turn to the others and comes back; when all are full the clients wait.

const test = require('node:test');
const assert = require('node:assert/strict');
const { connect, major, mechanism, receive, until } = require('../support/index.cjs');
const { hold, release } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

// Greets with the worker's id and keeps the connection. `limits` holds maxConnections by worker id.
function greet(w, { limits, ...options }) {
  const server = require('node:net').createServer((socket) => {
    socket.on('error', () => {});
    socket.resume().write(`${w.id}`);
  });
  server.maxConnections = limits?.[w.id];
  Object.assign(server, options);
  server.on('drop', (data) => w.tell({ drop: data ?? null }));
  server.listen(0, '127.0.0.1');
  w.server = server;
}

const connectionsOf = (rig, id) => rig.inWorker(id, (w) => new Promise((resolve, reject) => {
  w.server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
}));

const greetings = (sockets) => sockets.map((socket) => socket.greeting);
const count = (list, value) => list.filter((one) => one === value).length;

/** Connections, one after the other, until worker 1 has so many of them, and some more. In rotation its turn may come late. */
async function holdBeyond(rig, most, held = []) {
  const before = held.length;
  await until(async () => {
    held.push(await hold({ port: rig.port }));
    return count(greetings(held), '1') === most;
  }, `worker 1 has ${most}`);
  if (mechanism() !== 'rotation') assert.ok(held.length - before <= 10, `worker 1 had its turn after ${held.length - before}`);
  for (let i = 0; i < 8; i++) held.push(await hold({ port: rig.port }));
  return held;
}

test('a worker at its maxConnections leaves its turn to the others, and comes back', async (t) => {
  const rig = await startRig(t, { serve: greet, options: { limits: { 1: 2 } } });
  const held = await holdBeyond(rig, 2);
  assert.equal(count(greetings(held), '1'), 2);
  assert.equal(count(greetings(held), '2'), held.length - 2);
  await release(held.filter((socket) => socket.greeting === '1'));
  await until(async () => await connectionsOf(rig, 1) === 0, 'the places are free');
  const again = await holdBeyond(rig, 2);
  assert.equal(count(greetings(again), '1'), 2);
  await release([...held, ...again]);
});

test('many at once never exceed anybody\'s maxConnections', async (t) => {
  const rig = await startRig(t, { workers: 3, serve: greet, options: { limits: { 1: 3, 2: 5 } } });
  const held = await Promise.all(Array.from({ length: 40 }, () => hold({ port: rig.port })));
  assert.ok(count(greetings(held), '1') <= 3);
  assert.ok(count(greetings(held), '2') <= 5);
  assert.equal(count(greetings(held), '3'), await connectionsOf(rig, 3));
  await release(held);
});

test('all workers full: the clients wait and each is served when a place is free', async (t) => {
  const rig = await startRig(t, { serve: greet, options: { limits: { 1: 1, 2: 1 } } });
  const served = [];
  const clients = Array.from({ length: 8 }, () => hold({ port: rig.port }).then((socket) => served.push(socket)));
  const all = Promise.all(clients);
  for (let round = 0; round < 8; round += 2) {
    await until(() => served.length >= round + 2, 'the next two are served');
    assert.equal(served.length, round + 2, 'never more than there are places');
    assert.deepEqual([await connectionsOf(rig, 1), await connectionsOf(rig, 2)], [1, 1]);
    assert.deepEqual(greetings(served.slice(round)).sort(), ['1', '2']);
    await release(served.slice(round));
  }
  await all;
});

test('all workers full: a limit that is raised lets those in who wait', async (t) => {
  const rig = await startRig(t, { serve: greet, options: { limits: { 1: 1, 2: 1 } } });
  const held = [await hold({ port: rig.port }), await hold({ port: rig.port })];
  const waiting = hold({ port: rig.port });
  await rig.inWorker(1, (w) => { w.server.maxConnections = 5; });
  // A full worker looks again when one of its connections ends.
  await release(held);
  held.push(await waiting);
  await release(held);
});

test('a limit that is set while the server serves counts from then on', async (t) => {
  const rig = await startRig(t, { serve: greet });
  const held = [];
  for (let i = 0; i < 4; i++) held.push(await hold({ port: rig.port }));
  const had = count(greetings(held), '1');
  if (mechanism() !== 'rotation') assert.equal(had, 2);
  await rig.inWorker(1, (w, most) => { w.server.maxConnections = most; }, had + 1);
  await holdBeyond(rig, had + 1, held);
  assert.equal(count(greetings(held), '1'), had + 1);
  assert.equal(count(greetings(held), '2'), held.length - had - 1);
  await rig.inWorker(1, (w) => { w.server.maxConnections = undefined; });
  await release(held);
  const again = [];
  await until(async () => {
    again.push(await hold({ port: rig.port }));
    return again.at(-1).greeting === '1';
  }, 'the worker is back');
  await release(again);
});

for (const [what, make] of [
  ['a plain server', () => require('node:net').createServer],
  ['a class with an accessor of its own', () => (...args) => new (class extends require('node:net').Server {
    #most;
    get maxConnections() { return this.#most; }
    set maxConnections(most) { this.#most = most; }
  })(...args)],
]) {
  test(`closed, listening again and then limited: ${what}`, async (t) => {
    const rig = await startRig(t, {
      workers: 1,
      options: { make: `${make}` },
      serve(w, options) {
        const create = new Function('require', `return (${options.make})()`)(require);
        const server = create((socket) => socket.on('error', () => {}).resume().write(`${w.id}`));
        const listen = () => new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
        const again = () => new Promise((resolve) => server.close(resolve)).then(listen);
        w.server = server;
        w.ready = listen().then(again).then(again);
      },
    });
    const { port, keys, isIn } = await rig.inWorker(1, async (w) => {
      await w.ready;
      return { port: w.server.address().port, keys: Object.keys(w.server), isIn: 'maxConnections' in w.server };
    });
    assert.ok(!keys.includes('maxConnections'), 'what nobody has set cannot be seen');
    assert.equal(isIn, what !== 'a plain server');
    const held = [await hold({ port })];
    await rig.inWorker(1, (w) => { w.server.maxConnections = 2; });
    held.push(await hold({ port }));
    const third = hold({ port });
    assert.equal(await rig.inWorker(1, (w) => w.server.maxConnections), 2);
    assert.equal(await connectionsOf(rig, 1), 2);
    await release(held);
    await release([await third]);
    // Once more, with the limit.
    await rig.inWorker(1, (w) => new Promise((resolve) => w.server.close(() => w.server.listen(0, '127.0.0.1', resolve))));
    const again = await rig.inWorker(1, (w) => w.server.address().port);
    const full = [await hold({ port: again }), await hold({ port: again })];
    assert.equal(await rig.inWorker(1, (w) => w.server.maxConnections), 2);
    await release(full);
  });
}

test('a client that waits and gives up harms nobody', async (t) => {
  const rig = await startRig(t, { serve: greet, options: { limits: { 1: 1, 2: 1 } } });
  const held = [await hold({ port: rig.port }), await hold({ port: rig.port })];
  const impatient = await Promise.all(Array.from({ length: 6 }, () => connect(rig.port)));
  await release(impatient);
  const patient = hold({ port: rig.port });
  await release(held);
  const last = await patient;
  assert.match(last.greeting, /^[12]$/);
  await release([last]);
});

test('a full worker that is disconnected still ends when its connections do', async (t) => {
  const rig = await startRig(t, { serve: greet, options: { limits: { 1: 1, 2: 1 } } });
  const held = [await hold({ port: rig.port }), await hold({ port: rig.port })];
  await rig.inPrimary((cluster) => { cluster.workers[1].disconnect(); });
  await release(held);
  const { code, signal } = await rig.event('exit', (e) => e.id === 1);
  assert.deepEqual([code, signal], [0, null]);
  const next = await hold({ port: rig.port });
  assert.equal(next.greeting, '2');
  await release([next]);
});

test('without dropMaxConnection nobody is dropped', async (t) => {
  const rig = await startRig(t, { serve: greet, options: { limits: { 1: 1 } } });
  const held = [];
  for (let i = 0; i < 6; i++) held.push(await hold({ port: rig.port }));
  assert.deepEqual(rig.allTold((value) => value.drop !== undefined), []);
  await release(held);
});

test('dropMaxConnection: what is too much is taken and dropped, with its addresses',
  { skip: major < 22 && 'Node has dropMaxConnection since version 22' }, async (t) => {
    const rig = await startRig(t, { workers: 1, serve: greet, options: { limits: { 1: 1 }, dropMaxConnection: true } });
    const first = await hold({ port: rig.port });
    const second = await connect(rig.port);
    const { localPort } = second;
    assert.equal(await receive(second).catch(() => ''), '');
    const { drop } = await rig.told((value) => value.drop !== undefined);
    assert.deepEqual(
      [drop.localAddress, drop.localPort, drop.remoteAddress, drop.remotePort, drop.remoteFamily],
      ['127.0.0.1', rig.port, '127.0.0.1', localPort, 'IPv4'],
    );
    await release([first]);
    await until(async () => await connectionsOf(rig, 1) === 0, 'the place is free');
    const third = await hold({ port: rig.port });
    assert.equal(third.greeting, '1');
    await release([third]);
  });

test('getConnections counts a worker\'s own, and follows them', async (t) => {
  const rig = await startRig(t, { workers: 3, serve: greet });
  const held = [];
  for (let i = 0; i < 12; i++) held.push(await hold({ port: rig.port }));
  const expected = (id) => count(greetings(held), `${id}`);
  for (const id of [1, 2, 3]) assert.equal(await connectionsOf(rig, id), expected(id));
  assert.equal(expected(1) + expected(2) + expected(3), 12);
  await release(held.splice(0, 5));
  for (const id of [1, 2, 3]) {
    await until(async () => await connectionsOf(rig, id) === expected(id), `worker ${id} has ${expected(id)} left`);
  }
  await release(held);
});

test('server.close() lets connections live, and a new listen() in the worker takes its turn again', async (t) => {
  const rig = await startRig(t, {
    serve(w) {
      const { createServer } = require('node:net');
      w.open = (port) => new Promise((resolve) => {
        w.server = createServer((socket) => socket.on('error', () => {}).write(`${w.id}`));
        w.server.listen(port, '127.0.0.1', () => resolve(w.server.address().port));
      });
      w.open(0);
    },
  });
  const { port } = rig;
  const held = [];
  for (let i = 0; i < 4; i++) held.push(await hold({ port }));
  const own = held.filter((socket) => socket.greeting === '1');
  await rig.inWorker(1, (w) => { w.closed = new Promise((resolve) => w.server.close(resolve)); });
  for (let i = 0; i < 6; i++) held.push(await hold({ port }));
  assert.ok(count(greetings(held.slice(4)), '1') <= 1, 'at most what was under way before the primary knew');
  for (const socket of own) assert.equal(socket.destroyed, false);
  await release(held);
  await rig.inWorker(1, (w) => w.closed);
  assert.notEqual(await rig.inWorker(1, (w) => w.open(0)), 0);
});
