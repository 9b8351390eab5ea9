'use strict';
// How workers leave: the primary stops, lets one go, is asked to, or dies.

const test = require('node:test');
const assert = require('node:assert/strict');
const {
  LANGUAGES, ask, block, catches, connect, freeze, greeting, hold, holdBy, isAlive, receive, spawnAll, until,
  whoAnswers, withPrimary,
} = require('./support.cjs');

const ADDRESS = '127.0.0.1:0';
const languages = ['c', 'rust'];

// What the primary promises is one second. A machine with a load needs longer to notice, but not without end.
const ORPHAN_LIMIT = 4000;
// CL_WORKER_DISCONNECTING.
const LEAVING = 4;

for (const language of languages) {
  test(`SIGTERM to a primary in ${language}: all languages finish what they have, and end with code 0`, async () => {
    await withPrimary({ language }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const { port } = workers[0];
      const idle = await primary.spawn('c');
      // One connection in each hand, and one more that waits for each that serves one after another.
      const held = [];
      for (const { id } of workers) held.push(await holdBy(port, id));
      const waiting = await Promise.all(workers.map(() => connect(port)));
      const answers = waiting.map((socket) => receive(socket));
      for (const socket of waiting) socket.end();
      const passed = async () => {
        const infos = await Promise.all(workers.map(({ id }) => primary.info(id)));
        return infos.map((info) => info.waiting);
      };
      await until(async () => Math.max(...await passed()) > 0, 'connections that wait');

      const running = primary.tell('run');
      await until(() => catches(primary.pid, 'SIGTERM'), 'the handler for SIGTERM');
      process.kill(primary.pid, 'SIGTERM');
      // By this one, which has nothing to finish, it is seen that all were asked to leave.
      await primary.next('exit', idle.id);
      for (const { socket, all, id } of held) {
        socket.end();
        assert.equal(greeting(await all).id, id);
      }
      for (const text of await Promise.all(answers)) assert.notEqual(greeting(text).id, idle.id);
      assert.equal((await running).code, 0);
      for (const { id } of workers) {
        const [{ code, signal }] = primary.seen('exit', id);
        assert.deepEqual([code, signal], [0, 0]);
      }
    });
  });
}

for (const [i, language] of LANGUAGES.entries()) {
  test(`a worker in ${language} that is let go drains its mailbox and goes; nobody else notices`, async () => {
    await withPrimary({ language: languages[i % 2] }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const leaving = workers[i];
      const { all, release } = await block(primary, leaving);
      const sockets = await Promise.all(Array.from({ length: 12 }, () => connect(leaving.port)));
      const answers = sockets.map((socket) => receive(socket));
      for (const socket of sockets) socket.end();
      assert.equal((await primary.tell('disconnect', leaving.id)).code, 0);
      release();
      for (const text of await Promise.all(answers)) greeting(text);
      assert.match(await all, /blocked\n$/);
      const end = await primary.next('exit', leaving.id);
      assert.deepEqual([end.code, end.signal], [0, 0]);
      for (let n = 0; n < 9; n += 1) assert.notEqual((await whoAnswers(workers[(i + 1) % 4].port)).id, leaving.id);
    });
  });
}

test('the last one, a Node worker that is stopped while connections wait in its mailbox, answers them', async () => {
  await withPrimary({}, async (primary) => {
    const node = await primary.spawn('node', ADDRESS);
    const { all, release } = await block(primary, node);
    const sockets = await Promise.all(Array.from({ length: 12 }, () => connect(node.port)));
    const answers = sockets.map((socket) => receive(socket));
    for (const socket of sockets) socket.end();
    await until(async () => (await primary.info(node.id)).waiting >= 12, 'a mailbox with all of them');
    const stopped = primary.tell('stop', 15_000);
    assert.equal((await stopped).code, 0);
    await until(async () => (await primary.info(node.id)).state === LEAVING, 'the word that it is to leave');
    release();
    for (const text of await Promise.all(answers)) assert.equal(greeting(text).id, node.id);
    await all;
  });
});

test('cluster.worker.disconnect() in a Node worker: its servers close, it goes, others take its turns', async () => {
  await withPrimary({}, async (primary) => {
    const script = `
      const cluster = require('node:cluster');
      const server = require('node:net').createServer((socket) => {
        socket.end(\`node \${cluster.worker.id} \${cluster.worker.slot} \${process.pid}\\n\`);
        socket.resume();
      }).listen(0, '127.0.0.1');
      const told = [];
      server.on('close', () => told.push('close'));
      cluster.worker.on('disconnect', () => {
        told.push('disconnect', cluster.worker.exitedAfterDisconnect, cluster.worker.isConnected());
        console.error(JSON.stringify(told));
      });
      cluster.worker.on('message', () => cluster.worker.disconnect());`;
    const node = await primary.startNode(script);
    const { port } = await primary.next('listening', node.id);
    const c = await primary.spawn('c', ADDRESS);
    assert.equal((await until(async () => {
      const answered = await whoAnswers(port);
      return answered.id === node.id && answered;
    }, 'an answer in Node')).language, 'node');
    await primary.send(node.id, 'go');
    const end = await primary.next('exit', node.id);
    assert.deepEqual([end.code, end.signal], [0, 0]);
    await primary.said(/^\["close","disconnect",true,false\]$/m);
    for (let n = 0; n < 5; n += 1) assert.equal((await whoAnswers(port)).id, c.id);
  });
});

test('a Node worker with an open connection goes when that ends, and SIGTERM follows the deadline', async () => {
  await withPrimary({}, async (primary) => {
    const [one, two] = [await primary.spawn('node', ADDRESS), await primary.spawn('node', ADDRESS)];
    const first = await holdBy(one.port, one.id);
    const second = await holdBy(one.port, two.id);
    assert.equal((await primary.tell('disconnect', one.id)).code, 0);
    for (let n = 0; n < 4; n += 1) assert.equal((await whoAnswers(one.port)).id, two.id);
    assert.equal(primary.seen('exit', one.id).length, 0);
    first.socket.end();
    await primary.next('exit', one.id);
    // This client never ends.
    two.ends = { code: -1, signal: 15 };
    assert.equal((await primary.tell('stop', 300)).code, 0);
    await primary.next('exit', two.id);
    await second.all;
  });
});

for (const language of languages) {
  test(`the death of a primary in ${language} takes its workers along`, async () => {
    await withPrimary({ language, ends: { code: null, signal: 'SIGKILL' } }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      // A Node worker in each state: idle is among them; these are held up, stand still, have a connection.
      const busy = await primary.spawn('node', ADDRESS);
      await block(primary, busy);
      const still = await primary.spawn('node', ADDRESS);
      const serving = await primary.spawn('node', ADDRESS);
      await holdBy(serving.port, serving.id);
      await freeze(still.pid);
      process.kill(primary.pid, 'SIGKILL');
      const start = performance.now();
      await until(() => ![...workers, busy, still, serving].some(({ pid }) => isAlive(pid)), 'the end of all workers');
      const took = performance.now() - start;
      assert.ok(took < ORPHAN_LIMIT, `it took ${took} ms`);
    });
  });
}

test('a Node worker that only waits for messages stays', async () => {
  await withPrimary({}, async (primary) => {
    const waiting = await primary.spawn('node');
    await primary.next('online', waiting.id);
    // Another one has started from beginning to end in the meantime.
    await primary.spawn('node', ADDRESS);
    await primary.send(waiting.id, 'still there?');
    assert.equal(String(await primary.message(waiting.id)), 'still there?');
  });
});

test('the address of a killed Node worker stays open for its successor', async () => {
  await withPrimary({}, async (primary) => {
    const node = await primary.spawn('node', ADDRESS);
    await hold(node.port).then(({ socket }) => socket.end());
    await primary.kill(node);
    const answer = ask(node.port);
    const successor = await primary.spawn('c', ADDRESS);
    assert.equal(successor.port, node.port);
    assert.deepEqual([greeting(await answer).id, greeting(await answer).slot], [successor.id, 0]);
  });
});
