'use strict';
// What a worker shows to the engine without being asked: that its event loop turns.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, play } = require('../support/index.cjs');

test('each turn of a worker\'s event loop is a sign of life, and JavaScript that does not end gives none', ours, async () => {
  const run = await play({
    async primary({ cluster, report, until, directory }) {
      const { execFileSync } = require('node:child_process');
      const fs = require('node:fs');
      // The page that the engine shares with its one worker: docs/protocol.md, section 7a.
      const beat = () => {
        const line = fs.readFileSync('/proc/self/maps', 'utf8').split('\n').find((one) => one.includes('scoreboard'));
        const memory = fs.openSync('/proc/self/mem', 'r');
        const bytes = Buffer.alloc(8);
        fs.readSync(memory, bytes, 0, 8, parseInt(line, 16) + 72);
        fs.closeSync(memory);
        return bytes.readBigUInt64LE();
      };
      execFileSync('mkfifo', [`${directory}/hold`]);
      const worker = cluster.fork();
      const first = await until(beat, 'a sign of life');
      await until(() => beat() !== first, 'another');
      worker.send('hold');
      await new Promise((resolve) => worker.once('message', resolve));
      const held = beat();
      for (let i = 0; i < 50; i++) await new Promise(setImmediate);
      report('held', beat() === held);
      fs.writeFileSync(`${directory}/hold`, 'let go');
      await until(() => beat() !== held, 'it turns again');
      report('load', cluster.stats().workers.map(({ load }) => load));
      worker.disconnect();
    },
    worker({ directory }) {
      const stays = setInterval(() => {}, 5);
      process.once('disconnect', () => clearInterval(stays));
      process.once('message', () => {
        process.send('held');
        require('node:fs').readFileSync(`${directory}/hold`);
      });
    },
  });
  assert.equal(run.one('held'), true);
  assert.deepEqual(run.one('load'), [0]);
});
