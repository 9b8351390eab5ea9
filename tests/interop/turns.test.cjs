'use strict';
// Workers of all languages answer on one port, in exact turns.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const {
  connect, connectionsAmong, deadline, descriptors, freeze, inTurns, major, receive, request, spawnAll, thaw, until,
  whoAnswers, withPrimary,
} = require('./support.cjs');

const ADDRESS = '127.0.0.1:0';

const idsOf = (workers) => workers.map(({ id }) => id);

for (const language of ['c', 'header', 'rust']) {
  test(`under a primary in ${language} all languages answer on one port, in exact turns`, async () => {
    await withPrimary({ language }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const { port } = workers[0];
      for (const worker of workers) assert.equal(worker.port, port);
      const open = () => workers.map(({ pid }) => connectionsAmong(descriptors(pid)).length);
      await inTurns(port, idsOf(workers), workers.length);
      const before = await until(() => settled(open), 'settled descriptors');
      for (const { id, slot, pid, language: spoken } of await inTurns(port, idsOf(workers), 300)) {
        const worker = workers.find((one) => one.id === id);
        assert.deepEqual([spoken, slot, pid], [worker.language, id - 1, worker.pid]);
      }
      await until(() => `${open()}` === `${before}`, 'descriptors as before in each worker');
    });
  });
}

for (const language of ['c', 'header', 'rust']) {
  test(`without a choice, under a primary in ${language}, all languages have even turns`, async () => {
    await withPrimary({ language, env: { CL_MECHANISM: 'auto' } }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const had = new Map(idsOf(workers).map((id) => [id, 0]));
      const each = 50;
      for (let i = 0; i < each * workers.length; i += 1) {
        const { id } = await whoAnswers(workers[0].port);
        had.set(id, had.get(id) + 1);
      }
      assert.ok([...had.values()].every((count) => count > each * 0.7 && count < each * 1.3), String([...had.values()]));
    });
  });
}

test('a Node worker whose loop cannot wait for descriptors itself waits on a thread: the same turns', async () => {
  await withPrimary({ env: { CLUSTER_RS_WAIT: 'thread' } }, async (primary) => {
    const workers = await spawnAll(primary, ADDRESS);
    const tasks = `/proc/${workers[3].pid}/task`;
    const names = fs.readdirSync(tasks).map((thread) => fs.readFileSync(`${tasks}/${thread}/comm`, 'utf8'));
    assert.ok(names.includes('cluster-rs wait\n'), String(names));
    await inTurns(workers[0].port, idsOf(workers), 100);
    await primary.send(workers[3].id, 'a message');
    assert.equal(String(await primary.message(workers[3].id)), 'a message');
  });
});

// Two looks that agree.
async function settled(look) {
  const first = `${look()}`;
  await new Promise((resolve) => setTimeout(resolve, 20));
  return `${look()}` === first && first;
}

test('many at a time: every connection is answered once, by workers of every language', async () => {
  await withPrimary({}, async (primary) => {
    const workers = await spawnAll(primary, ADDRESS);
    const answered = await Promise.all(Array.from({ length: 200 }, () => whoAnswers(workers[0].port)));
    for (const { id } of workers) {
      const had = answered.filter((one) => one.id === id).length;
      assert.ok(had > 0);
      assert.ok((await primary.info(id)).delivered >= had);
    }
  });
});

for (const language of ['c', 'rust']) {
  test(`one shared socket (policy none) under a primary in ${language}: each language accepts from it`, async () => {
    await withPrimary({ language, policy: 'none' }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const { port } = workers[0];
      for (const worker of workers) assert.equal(worker.port, port);
      // Only one at a time can answer.
      for (const worker of workers) {
        const others = workers.filter((one) => one !== worker);
        for (const { pid } of others) await freeze(pid);
        for (let i = 0; i < 20; i += 1) assert.equal((await whoAnswers(port)).id, worker.id);
        for (const { pid } of others) thaw(pid);
      }
      const answered = await Promise.all(Array.from({ length: 100 }, () => whoAnswers(port)));
      assert.equal(answered.length, 100);
    });
  });
}

test('a unix socket, by path and abstract, shared by all languages', async () => {
  await withPrimary({}, async (primary) => {
    const file = `${primary.directory}/socket`;
    const name = `interop-${process.pid}`;
    const workers = await spawnAll(primary, `unix:${file}`, `unix:@${name}`);
    for (const worker of workers) assert.deepEqual(worker.ports, [-1, -1]);
    // Before Node 22 a client in Node pads abstract names, and means another one.
    for (const place of major < 22 ? [file] : [file, `\0${name}`]) {
      await inTurns(place, idsOf(workers), 40);
    }
  });
});

test('port 0: the first of each worker is one port, the second another', async () => {
  await withPrimary({}, async (primary) => {
    const workers = await spawnAll(primary, ADDRESS, ADDRESS);
    const [{ ports }] = workers;
    assert.notEqual(ports[0], ports[1]);
    for (const worker of workers) assert.deepEqual(worker.ports, ports);
    for (const port of ports) await inTurns(port, idsOf(workers), 40);
  });
});

test('addresses of both families and of all interfaces are the same for every language', async () => {
  await withPrimary({}, async (primary) => {
    const workers = await spawnAll(primary, '[::1]:0', ':0', '0.0.0.0:0');
    const [{ ports }] = workers;
    for (const worker of workers) assert.deepEqual(worker.ports, ports);
    const places = [{ host: '::1', port: ports[0] }, { host: '::1', port: ports[1] }, ports[1], ports[2]];
    for (const place of places) await inTurns(place, idsOf(workers), 20);
  });
});

test('an HTTP server in Node beside a worker in C: keep-alive stays with the worker', async () => {
  await withPrimary({}, async (primary) => {
    const script = "require('node:http').createServer((asked, answer) => answer.end(asked.url)).listen(0, '127.0.0.1')";
    const worker = await primary.startNode(script);
    const { port } = await primary.next('listening', worker.id);
    const c = await primary.spawn('c', ADDRESS);
    assert.equal(c.port, port);
    const answers = [];
    for (let i = 0; i < 10; i += 1) {
      const socket = await connect(port);
      const text = receive(socket);
      socket.end('GET /one HTTP/1.1\r\nHost: x\r\n\r\nGET /two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      answers.push(await deadline(text, 'an answer'));
    }
    const inC = answers.filter((text) => /^c \d/.test(text)).length;
    const inNode = answers.filter((text) => /\/one[^]*\/two/.test(text)).length;
    assert.ok(inC > 0 && inNode > 0 && inC + inNode === answers.length, String(answers));
    await primary.kill(c);
    assert.equal((await request(port, { path: '/alone' })).body, '/alone');
  });
});
