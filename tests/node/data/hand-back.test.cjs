'use strict';

// Idle keep-alive connections of a worker that leaves go, unread, to other workers; their clients notice nothing.

const test = require('node:test');
const assert = require('node:assert/strict');
const net = require('node:net');
const { hasKernel, ours, until } = require('../support/index.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const MECHANISMS = {
  'what a cluster takes by itself': {},
  passed: { CL_MECHANISM: 'passed' },
  ...(hasKernel() && { kernel: { CL_MECHANISM: 'kernel' } }),
};

const CLIENTS = 20;
/** Each worker gets its part of so few. */
const EXACT = { CL_MECHANISM: 'passed' };

function serveHttp(w) {
  const { wait = 0, chunks = 1, listener = false, handBack } = JSON.parse(process.env.SERVE ?? '{}');
  const server = require('node:http').createServer((request, response) => {
    const { slot } = require('node:cluster').worker;
    const part = (left) => {
      if (left > 1) response.write(' ');
      if (left > 1) setTimeout(part, wait / chunks, left - 1);
      else response.end(`${w.id} ${slot}`);
    };
    setTimeout(part, wait, chunks);
  });
  server.keepAliveTimeout = 60_000;
  if (listener) server.on('connection', () => {});
  if (handBack !== undefined) server.handBack = handBack;
  process.httpServer = server;
  server.listen(0, '127.0.0.1');
}

/** A client that keeps its connection, and fails if that is closed. */
class Client {
  closed = false;
  #text = '';
  #answered;

  constructor(port, localAddress = '127.0.0.1') {
    this.socket = net.connect({ port, host: '127.0.0.1', localAddress });
    this.socket.on('data', (data) => {
      this.#text += data;
      // With a length, or in pieces.
      const [, head, body] = /^(.*?)\r\n\r\n.*?(\d+ \d+)(?:\r\n0\r\n\r\n)?$/s.exec(this.#text) ?? [];
      if (body === undefined || (/chunked/.test(head) && !this.#text.endsWith('0\r\n\r\n'))) return;
      this.#text = '';
      this.head = head;
      this.#answered?.(body);
    });
    this.socket.on('error', () => {}).on('close', () => {
      this.closed = true;
      this.#answered?.('closed');
    });
  }

  ask(half = false) {
    const answer = new Promise((resolve) => { this.#answered = resolve; });
    this.socket.write(half ? 'GET / HTTP/1.1\r\nHo' : 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    return answer;
  }

  rest() {
    const answer = new Promise((resolve) => { this.#answered = resolve; });
    this.socket.write('st: x\r\n\r\n');
    return answer;
  }

  end() {
    this.socket.destroy();
  }
}

async function startClients(t, rig, addressOf = () => '127.0.0.1') {
  const clients = Array.from({ length: CLIENTS }, (_, i) => new Client(rig.port, addressOf(i)));
  t.after(() => clients.forEach((client) => client.end()));
  await Promise.all(clients.map((client) => client.ask()));
  return clients;
}

const leave = (rig, id) => rig.inPrimary((cluster, which) => { cluster.workers[which].disconnect(); }, id);
const restart = (rig, id) => rig.inPrimary((cluster, which) => { cluster.workers[which].restart(); }, id);
const idsOf = async (clients) => (await Promise.all(clients.map((client) => client.ask()))).map((answer) => answer.split(' ')[0]);

for (const [mechanism, env] of Object.entries(MECHANISMS)) {
  test(`${mechanism}: all workers are replaced, and no connection is closed`, ours, async (t) => {
    const rig = await startRig(t, { workers: 2, serve: serveHttp, env });
    const clients = await startClients(t, rig);
    const reloading = rig.inPrimary((cluster) => cluster.reload({ minReady: 0 }));
    let isOver = false;
    reloading.then(() => { isOver = true; });
    // Each asks all the time.
    await Promise.all(clients.map(async (client) => {
      while (!isOver) assert.notEqual(await client.ask(), 'closed');
    }));
    assert.equal((await reloading).outcome, 'done');
    for (const id of [1, 2]) await rig.event('exit', (e) => e.id === id);
    assert.deepEqual([...new Set(await idsOf(clients))].sort(), ['3', '4']);
    assert.ok(clients.every(({ closed, head }) => !closed && !/connection: close/i.test(head)));
  });
}

test('a request in hand is answered first, without Connection: close, and then its connection goes', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: serveHttp, env: { SERVE: JSON.stringify({ wait: 200, chunks: 3 }), ...EXACT } });
  const clients = await startClients(t, rig);
  const answers = Promise.all(clients.map((client) => client.ask()));
  await until(async () => await rig.inWorker(1, () => process.httpServer._connections) > 0, 'requests are in hand');
  await leave(rig, 1);
  assert.ok((await answers).some((answer) => answer.startsWith('1 ')));
  await rig.event('exit', (e) => e.id === 1);
  assert.deepEqual([...new Set(await idsOf(clients))], ['2']);
  assert.ok(clients.every(({ head }) => !/connection: close/i.test(head)));
});

test('a connection of which a part of a request was read stays until that is answered', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: serveHttp, env: EXACT });
  const clients = await startClients(t, rig);
  clients.forEach((client) => client.ask(true));
  await until(async () => {
    const active = await rig.inWorker(1, () => {
      const list = process.httpServer[Object.getOwnPropertySymbols(process.httpServer).find((s) => s.description === 'http.server.connections')];
      return list.all().length > 0 && list.idle().length === 0;
    });
    return active;
  }, 'the halves were read');
  await leave(rig, 1);
  const answers = await Promise.all(clients.map((client) => client.rest()));
  assert.ok(!answers.includes('closed'));
  await rig.event('exit', (e) => e.id === 1);
  assert.deepEqual([...new Set(await idsOf(clients))], ['2']);
});

test('under SCHED_SOURCE_HASH each client stays in its slot', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: serveHttp, env: { NODE_CLUSTER_SCHED_POLICY: 'source-hash' } });
  const clients = await startClients(t, rig, (i) => `127.0.1.${i + 1}`);
  const slotsOf = async () => (await Promise.all(clients.map((client) => client.ask()))).map((answer) => answer.split(' ')[1]);
  const before = await slotsOf();
  assert.ok(new Set(before).size > 1);
  for (const id of [1, 2, 3]) {
    await restart(rig, id);
    await rig.event('exit', (e) => e.id === id);
    assert.deepEqual(await slotsOf(), before);
  }
});

for (const [what, how, closes] of [
  ['a server with a listener for connections of its own keeps them', { listener: true }, true],
  ['it does not if handBack is true', { listener: true, handBack: true }, false],
  ['a server keeps them if handBack is false', { handBack: false }, true],
]) {
  test(what, ours, async (t) => {
    const rig = await startRig(t, { workers: 2, serve: serveHttp, env: { SERVE: JSON.stringify(how), ...EXACT } });
    const clients = await startClients(t, rig);
    await leave(rig, 1);
    await rig.event('exit', (e) => e.id === 1);
    if (closes) await until(() => clients.some(({ closed }) => closed), 'some are closed');
    else assert.ok(!(await idsOf(clients)).includes('closed'));
  });
}

test('a worker that disconnects by itself hands back, too', ours, async (t) => {
  const rig = await startRig(t, { workers: 2, serve: serveHttp, env: EXACT });
  const clients = await startClients(t, rig);
  await rig.inWorker(1, () => { require('node:cluster').worker.disconnect(); });
  await rig.event('exit', (e) => e.id === 1);
  assert.deepEqual([...new Set(await idsOf(clients))], ['2']);
});

test('where all leave, nobody hands anything to the next', ours, async (t) => {
  const rig = await startRig(t, { workers: 3, serve: serveHttp });
  const clients = await startClients(t, rig);
  await rig.inPrimary((cluster) => { cluster.disconnect(); });
  for (const id of [1, 2, 3]) await rig.event('exit', (e) => e.id === id);
  await until(() => clients.every(({ closed }) => closed), 'all are closed');
});
