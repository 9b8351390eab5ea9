'use strict';
// Killed, blocked, stopped and full workers: what one cannot take, a worker of another language answers.

const test = require('node:test');
const assert = require('node:assert/strict');
const {
  LANGUAGES, ask, block, connect, freeze, greeting, hold, holdBy, inTurns, receive, spawnAll, thaw, until, whoAnswers,
  withPrimary,
} = require('./support.cjs');

const ADDRESS = '127.0.0.1:0';
// More than all mailboxes of the workers here hold.
const MANY = 80;

// Who answers so many clients at the same time.
const idsOf = (count, port) => Promise.all(Array.from({ length: count }, async () => (await whoAnswers(port)).id));

const allInTurns = (port, workers) => inTurns(port, workers.map(({ id }) => id), workers.length * 5);

for (const [i, language] of LANGUAGES.entries()) {
  const under = i % 2 === 0 ? 'rust' : 'c';

  test(`a killed worker in ${language} loses what it had taken and no more (primary in ${under})`, async () => {
    await withPrimary({ language: under }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const victim = workers[i];
      const others = workers.filter((worker) => worker !== victim);
      const { all } = await block(primary, victim);
      for (const { pid } of others) await freeze(pid);

      const waiting = await Promise.all(Array.from({ length: MANY }, () => connect(victim.port)));
      const answers = waiting.map((socket) => receive(socket));
      for (const socket of waiting) socket.end();
      await until(async () => (await primary.info(victim.id)).waiting > 0, 'connections in the mailbox of the victim');
      await primary.kill(victim);
      for (const { pid } of others) thaw(pid);

      const ids = (await Promise.all(answers)).map((text) => greeting(text).id);
      for (const id of ids) assert.ok(others.some((worker) => worker.id === id), `answered by ${id}`);
      // Neither is served a second time.
      assert.match(await all, /^(\w+ \d+ \d+ \d+\nblocked\n|ECONNRESET)$/);

      const successor = await primary.spawn(language, ADDRESS);
      assert.equal(successor.port, victim.port);
      await allInTurns(victim.port, [...others, successor]);
      assert.equal((await holdBy(victim.port, successor.id).then(({ socket, slot }) => socket.end() && slot)), i);
    });
  });

  test(`a worker in ${language} that stands still is passed by and comes back (primary in ${under})`, async () => {
    await withPrimary({ language: under }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const [stuck] = workers.splice(i, 1);
      await freeze(stuck.pid);
      const ids = await idsOf(MANY, stuck.port);
      assert.equal(ids.length, MANY);
      assert.ok(!ids.includes(stuck.id));
      await allInTurns(stuck.port, workers);
      thaw(stuck.pid);
      await until(async () => (await whoAnswers(stuck.port)).id === stuck.id, 'an answer of the one that stood still');
      await allInTurns(stuck.port, [...workers, stuck]);
    });
  });

  test(`a worker in ${language} that is busy keeps nobody waiting and comes back (primary in ${under})`, async () => {
    await withPrimary({ language: under }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const { all, release } = await block(primary, workers[i]);
      const ids = await idsOf(MANY, workers[i].port);
      assert.ok(!ids.includes(workers[i].id));
      release();
      assert.match(await all, /blocked\n$/);
      await until(async () => (await whoAnswers(workers[i].port)).id === workers[i].id, 'an answer of the busy one');
      await allInTurns(workers[i].port, workers);
    });
  });
}

test('a Node worker that has as many connections as it wants gives its turn to the C worker at once', async () => {
  await withPrimary({}, async (primary) => {
    const node = await primary.spawn('node', '--max=1', ADDRESS);
    const c = await primary.spawn('c', ADDRESS);
    const delays = [];
    for (let round = 0; round < 10; round += 1) {
      const held = await holdBy(node.port, node.id);
      // Its turn comes among these, more than once.
      for (let i = 0; i < 6; i += 1) {
        const start = performance.now();
        assert.equal((await whoAnswers(node.port)).id, c.id);
        if (i < 2) delays.push(performance.now() - start);
      }
      assert.equal((await primary.info(node.id)).waiting, 0);
      held.socket.end();
      await held.all;
    }
    // One that is merely slow is passed by after 60 ms. The quickest of the turns that were given away shows that this
    // was not waited for, however slow the machine is now and then.
    const given = Array.from({ length: 10 }, (_, round) => Math.max(...delays.slice(2 * round, 2 * round + 2)));
    assert.ok(Math.min(...given) < 40, `not at once: ${given}`);
  });
});

test('when the Node worker alone is left and full, clients wait until it has room', async () => {
  await withPrimary({}, async (primary) => {
    const node = await primary.spawn('node', '--max=1', ADDRESS);
    const held = await hold(node.port);
    const sockets = await Promise.all(Array.from({ length: 10 }, () => connect(node.port)));
    let answered = 0;
    const answers = sockets.map(async (socket) => {
      const text = await receive(socket);
      answered += 1;
      return text;
    });
    for (const socket of sockets) socket.end();
    await primary.info(node.id);
    assert.equal(answered, 0);
    held.socket.end();
    for (const text of await Promise.all(answers)) assert.equal(greeting(text).id, node.id);
  });
});

test('a Node worker whose handler throws loses that connection and is replaced by whoever is there', async () => {
  await withPrimary({}, async (primary) => {
    const script = "require('node:net').createServer(() => { throw new Error('broken'); }).listen(0, '127.0.0.1')";
    const node = await primary.startNode(script);
    node.ends = { code: 1, signal: 0 };
    const { port } = await primary.next('listening', node.id);
    const c = await primary.spawn('c', ADDRESS);
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(port).catch(() => '')));
    await primary.next('exit', node.id);
    await primary.said(/Error: broken/);
    // The one it had in its hand is lost, and no other.
    assert.equal(answers.filter((text) => text === '').length, 1);
    assert.equal(answers.filter((text) => text && greeting(text).id === c.id).length, 19);
  });
});

for (const language of ['c', 'rust']) {
  test(`a primary in ${language} replaces workers of every language by their like, in their slots`, async () => {
    await withPrimary({ language, respawn: true }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const { port } = workers[0];
      for (const worker of workers) await primary.kill(worker);
      const answers = new Map();
      await until(async () => {
        const answered = await whoAnswers(port);
        answers.set(answered.slot, answered);
        return answers.size === workers.length;
      }, 'an answer from each slot');
      for (const [slot, { language: spoken, id, pid }] of answers) {
        assert.equal(spoken, LANGUAGES[slot]);
        assert.ok(id > workers.length);
        assert.notEqual(pid, workers[slot].pid);
      }
    });
  });
}

test('one shared socket (policy none): killed and let go workers lose nothing that they had not accepted', async () => {
  await withPrimary({ policy: 'none' }, async (primary) => {
    const workers = await spawnAll(primary, ADDRESS);
    const { port } = workers[0];
    const last = await primary.spawn('node', ADDRESS);
    for (const [i, worker] of workers.entries()) {
      const others = [...workers.slice(i + 1), last];
      for (const { pid } of [worker, ...others]) await freeze(pid);
      const answers = idsOf(20, port);
      await primary.kill(worker);
      for (const { pid } of others) thaw(pid);
      for (const id of await answers) assert.ok(id > worker.id);
    }
    const successors = await spawnAll(primary, ADDRESS);
    for (const { id } of successors) {
      assert.equal((await primary.tell('disconnect', id)).code, 0);
      assert.deepEqual(await primary.next('exit', id).then(({ code, signal }) => [code, signal]), [0, 0]);
    }
    assert.deepEqual([...new Set(await idsOf(10, port))], [last.id]);
  });
});
