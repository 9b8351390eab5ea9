'use strict';
// Messages between a primary and its workers, both ways, whatever they are written in.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { isAlive } = require('../node/support/index.cjs');
const { LANGUAGES, freeze, spawnAll, until, withPrimary } = require('./support.cjs');

const ADDRESS = '127.0.0.1:0';
const MOST = 65_536;
const SIZES = [0, 1, 2, 1000, MOST - 1, MOST];

const pattern = (size) => Buffer.from(Array.from({ length: size }, (_, i) => (i * 31 + size) % 256));

for (const [i, language] of ['c', 'header', 'rust'].entries()) {
  test(`bytes of all sizes and values come back from workers in every language (primary in ${language})`, async () => {
    await withPrimary({ language }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      for (const { id, language: spoken } of workers) {
        for (const [number, size] of SIZES.entries()) {
          await primary.send(id, pattern(size));
          assert.deepEqual(await primary.message(id, number), pattern(size), `${size} bytes, ${spoken}, ${i}`);
        }
      }
    });
  });
}

for (const language of LANGUAGES) {
  test(`many messages come back in order from a worker in ${language}`, async () => {
    await withPrimary({}, async (primary) => {
      const { id } = await primary.spawn(language, ADDRESS);
      const texts = Array.from({ length: 500 }, (_, n) => `message ${n} ${'x'.repeat(n)}`);
      await Promise.all(texts.map((text) => primary.send(id, text)));
      await primary.next('message', id, texts.length - 1);
      for (const [n, text] of texts.entries()) assert.equal(String(await primary.message(id, n)), text);
      assert.equal(primary.seen('message', id).length, texts.length);
    });
  });
}

const TELLS = `
  const cluster = require('node:cluster');
  const { worker } = cluster;
  require('node:net').createServer().listen(0, '127.0.0.1');
  const attempt = (send) => {
    try {
      return send();
    } catch ({ name, code }) {
      return { name, code };
    }
  };
  const tell = (value) => worker.send(JSON.stringify(value));`;

test('a Node worker sends text and bytes, and is told what a message cannot be', async () => {
  await withPrimary({ language: 'rust' }, async (primary) => {
    const { id } = await primary.startNode(`${TELLS}
      worker.on('message', () => {
        worker.send('gr\\u00fc\\u00df dich');
        worker.send(Buffer.from([0, 255, 10]));
        worker.send(new Uint16Array([1, 2]).subarray(1));
        tell([{}, 5, null, undefined].map((value) => attempt(() => worker.send(value))));
        tell(attempt(() => worker.send('x'.repeat(${MOST} + 1))).code ?? 'sent');
        worker.send('last', (...told) => tell({ told }));
      });`);
    await primary.next('listening', id);
    await primary.send(id, '');
    assert.equal(String(await primary.message(id, 0)), 'grüß dich');
    assert.deepEqual([...await primary.message(id, 1)], [0, 255, 10]);
    assert.deepEqual([...await primary.message(id, 2)], [2, 0]);
    const refused = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
    assert.deepEqual(JSON.parse(await primary.message(id, 3)), [refused, refused, refused, refused]);
    assert.equal(JSON.parse(await primary.message(id, 4)), 'EMSGSIZE');
    assert.equal(String(await primary.message(id, 5)), 'last');
    assert.deepEqual(JSON.parse(await primary.message(id, 6)), { told: [null] });
  });
});

test('a message is a Buffer of its own, and what its handler throws is an uncaught exception', async () => {
  await withPrimary({}, async (primary) => {
    const { id } = await primary.startNode(`${TELLS}
      const kept = [];
      process.on('uncaughtException', (error) => tell(error.message));
      worker.on('message', (message) => {
        kept.push(message);
        if (String(message) === 'throw') throw new Error('thrown');
        if (String(message) === 'end') tell({ kept: kept.map(String), buffers: kept.every(Buffer.isBuffer) });
      });`);
    await primary.next('listening', id);
    for (const text of ['one', 'throw', 'two', 'end']) await primary.send(id, text);
    assert.equal(String(await primary.message(id, 0)), '"thrown"');
    assert.deepEqual(JSON.parse(await primary.message(id, 1)), { kept: ['one', 'throw', 'two', 'end'], buffers: true });
  });
});

test('small messages that are kept take little memory', async () => {
  await withPrimary({}, async (primary) => {
    const { id } = await primary.startNode(`${TELLS}
      const kept = [];
      let before;
      worker.on('message', (message) => {
        kept.push(message);
        if (kept.length === 100) before = process.memoryUsage.rss();
        if (kept.length % 100 !== 0) return;
        if (kept.length === 2100) tell((process.memoryUsage.rss() - before) / 2000);
        else worker.send('more');
      });`);
    await primary.next('listening', id);
    for (let round = 0; round < 21; round++) {
      for (let i = 0; i < 100; i++) await primary.send(id, '0123456789');
      await primary.next('message', id, round);
    }
    const each = JSON.parse(await primary.message(id, 20));
    assert.ok(each < 8192, `${each} bytes for a message of 10`);
  });
});

test('what a primary had sent when it died with something unread is still read, and then its end', async () => {
  await withPrimary({ ends: { code: null, signal: 'SIGKILL' } }, async (primary) => {
    const { id, pid } = await primary.startNode(`${TELLS}
      const fs = require('node:fs');
      const sleep = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
      const reached = (name) => fs.writeFileSync(name, '');
      const wait = (name) => { while (!fs.existsSync(name)) sleep(); };
      const note = (text) => fs.appendFileSync('notes', text + '\\n');
      process.on('exit', (code) => note('exit ' + code));
      worker.on('message', (message) => {
        if (String(message) !== 'block') return note(message);
        reached('blocked');
        wait('frozen');
        worker.send('unread');
        reached('sent');
        wait('dead');
      });`);
    await primary.next('listening', id);
    const file = (name) => `${primary.directory}/${name}`;
    const reached = (name) => until(() => fs.existsSync(file(name)), name);
    await primary.send(id, 'block');
    await reached('blocked');
    for (const text of ['one', 'two', 'three']) await primary.send(id, text);
    await freeze(primary.pid);
    fs.writeFileSync(file('frozen'), '');
    await reached('sent');
    process.kill(primary.pid, 'SIGKILL');
    await primary.exit;
    fs.writeFileSync(file('dead'), '');
    await until(() => !isAlive(pid), 'the end of the worker');
    assert.equal(fs.readFileSync(file('notes'), 'utf8'), 'one\ntwo\nthree\nexit 0\n');
  });
});

test('a Node worker that does not read in time gets everything later; the primary does not wait for it', async () => {
  await withPrimary({}, async (primary) => {
    const { id, pid } = await primary.spawn('node', ADDRESS);
    process.kill(pid, 'SIGSTOP');
    const big = pattern(MOST).toString('hex');
    let sent = 0;
    let code = 0;
    // Until what waits for it is as much as may wait.
    while (code === 0) {
      ({ code } = await primary.tell('send', id, big));
      if (code === 0) sent += 1;
      assert.ok(sent < 1000, 'no bound');
    }
    assert.equal(code, -11, 'EAGAIN');
    process.kill(pid, 'SIGCONT');
    await primary.next('message', id, sent - 1);
    assert.deepEqual(await primary.message(id, sent - 1), pattern(MOST));
    await until(async () => (await primary.tell('send', id, '00')).code === 0, 'room');
    assert.deepEqual(await primary.message(id, sent), Buffer.from([0]));
  });
});
