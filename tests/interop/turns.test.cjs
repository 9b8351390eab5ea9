'use strict';
// Workers of all languages answer on one port, in exact turns.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const {
  connect, connectionsAmong, deadline, descriptors, freeze, major, receive, request, spawnAll, tally, thaw, until,
  whoAnswers, withPrimary,
} = require('./support.cjs');

const ADDRESS = '127.0.0.1:0';

// As many connections one after another; the ids of those who answered.
async function askMany(place, count, check = () => {}) {
  const ids = [];
  for (let i = 0; i < count; i += 1) {
    const answered = await whoAnswers(place);
    check(answered);
    ids.push(answered.id);
  }
  return ids;
}

for (const language of ['c', 'header', 'rust']) {
  test(`under a primary in ${language} all languages answer on one port, in exact turns`, async () => {
    await withPrimary({ language }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const { port } = workers[0];
      for (const worker of workers) assert.equal(worker.port, port);
      const open = () => workers.map(({ pid }) => connectionsAmong(descriptors(pid)).length);
      await askMany(port, workers.length);
      const before = await until(() => settled(open), 'settled descriptors');

      const ids = await askMany(port, 300, ({ id, slot, pid, language: spoken }) => {
        const worker = workers.find((one) => one.id === id);
        assert.deepEqual([spoken, slot, pid], [worker.language, id - 1, worker.pid]);
      });

      const counts = [...tally(ids).values()];
      assert.equal(counts.length, workers.length);
      assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `not in turns: ${counts}`);
      for (let i = workers.length; i < ids.length; i += 1) assert.equal(ids[i], ids[i - workers.length]);
      await until(() => `${open()}` === `${before}`, 'descriptors as before in each worker');
    });
  });
}

test('a Node worker whose loop cannot wait for descriptors itself waits on a thread: the same turns', async () => {
  await withPrimary({ env: { CLUSTER_RS_WAIT: 'thread' } }, async (primary) => {
    const workers = await spawnAll(primary, ADDRESS);
    const tasks = `/proc/${workers[3].pid}/task`;
    const names = fs.readdirSync(tasks).map((thread) => fs.readFileSync(`${tasks}/${thread}/comm`, 'utf8'));
    assert.ok(names.includes('cluster-rs wait\n'), String(names));
    assert.deepEqual([...tally(await askMany(workers[0].port, 100)).values()], workers.map(() => 25));
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
    const counts = tally(answered.map(({ id }) => id));
    assert.equal(counts.size, workers.length);
    const infos = await Promise.all(workers.map(({ id }) => primary.info(id)));
    assert.equal(infos.reduce((sum, { delivered }) => sum + delivered, 0), 200);
    for (const [i, { id }] of workers.entries()) assert.equal(infos[i].delivered, counts.get(id));
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
        for (const id of await askMany(port, 20)) assert.equal(id, worker.id);
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
      const counts = [...tally(await askMany(place, 40)).values()];
      assert.deepEqual(counts, workers.map(() => 10));
    }
  });
});

test('port 0: the first of each worker is one port, the second another', async () => {
  await withPrimary({}, async (primary) => {
    const workers = await spawnAll(primary, ADDRESS, ADDRESS);
    const [{ ports }] = workers;
    assert.notEqual(ports[0], ports[1]);
    for (const worker of workers) assert.deepEqual(worker.ports, ports);
    for (const port of ports) {
      assert.deepEqual([...tally(await askMany(port, 40)).values()], workers.map(() => 10));
    }
  });
});

test('addresses of both families and of all interfaces are the same for every language', async () => {
  await withPrimary({}, async (primary) => {
    const workers = await spawnAll(primary, '[::1]:0', ':0', '0.0.0.0:0');
    const [{ ports }] = workers;
    for (const worker of workers) assert.deepEqual(worker.ports, ports);
    const places = [{ host: '::1', port: ports[0] }, { host: '::1', port: ports[1] }, ports[1], ports[2]];
    for (const place of places) {
      assert.deepEqual([...tally(await askMany(place, 20)).values()], workers.map(() => 5));
    }
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
    assert.equal(answers.filter((text) => /^c \d/.test(text)).length, 5);
    assert.equal(answers.filter((text) => /\/one[^]*\/two/.test(text)).length, 5);
    await primary.kill(c);
    assert.equal((await request(port, { path: '/alone' })).body, '/alone');
  });
});
