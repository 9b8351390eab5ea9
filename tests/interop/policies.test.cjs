'use strict';
// The policies that look at more than whose turn it is, with workers in every language on one port.

const test = require('node:test');
const assert = require('node:assert/strict');
const { LANGUAGES, spawnAll, whoAnswers, withPrimary } = require('./support.cjs');

const ADDRESS = '127.0.0.1:0';
const CLIENTS = Array.from({ length: 60 }, (_, i) => `127.0.0.${i + 2}`);

async function owners(port) {
  const found = [];
  for (const localAddress of CLIENTS) found.push((await whoAnswers({ host: '127.0.0.1', port, localAddress })).slot);
  return found;
}

for (const language of ['c', 'header', 'rust']) {
  test(`SOURCE_HASH under a primary in ${language}: a client meets its slot, whatever language sits there`, async () => {
    await withPrimary({ language, policy: 'source-hash' }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const { port } = workers[0];
      const before = await owners(port);
      assert.deepEqual([...new Set(before)].sort(), [0, 1, 2, 3]);
      await primary.kill(workers[1]);
      const without = await owners(port);
      for (const [i, slot] of before.entries()) {
        if (slot === 1) assert.notEqual(without[i], 1);
        else assert.equal(without[i], slot);
      }
      await primary.spawn('node', ADDRESS);
      assert.deepEqual(await owners(port), before);
    });
  });

  test(`LEAST_LOADED under a primary in ${language}: a load is understood from each language`, async () => {
    await withPrimary({ language, policy: 'least-loaded' }, async (primary) => {
      const workers = await spawnAll(primary, ADDRESS);
      const { port } = workers[0];
      for (const [round, chosen] of LANGUAGES.entries()) {
        for (const { id, language: spoken } of workers) {
          await primary.send(id, `load ${spoken === chosen ? 0 : 1000}`);
          await primary.message(id, round);
        }
        for (let i = 0; i < 10; i += 1) assert.equal((await whoAnswers(port)).language, chosen);
      }
    });
  });
}
