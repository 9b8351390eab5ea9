'use strict';

// node_modules/.bin/cluster-rs, as npm linked it: it serves with two workers, and a SIGTERM ends it.
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const { ask } = require('./run.cjs');

async function main() {
  const exactTurns = ['--mechanism', 'passed'];
  const child = spawn('node_modules/.bin/cluster-rs', ['-i', '2', ...exactTurns, 'server.cjs'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = once(child, 'exit');
  let told = '';
  const port = await new Promise((resolve, reject) => {
    const hear = (text) => {
      told += text;
      const [, found] = /listening on 127\.0\.0\.1:(\d+) .*2 workers/.exec(told) ?? [];
      if (found) resolve(found);
    };
    child.stdout.setEncoding('utf8').on('data', hear);
    child.stderr.setEncoding('utf8').on('data', hear);
    exit.then((how) => reject(new Error(`ended (${how}): ${told}`)));
  });
  const answers = [await ask(port), await ask(port)];
  assert.deepEqual(answers.sort(), ['slot 0', 'slot 1']);
  child.kill('SIGTERM');
  assert.deepEqual(await exit, [0, null], told);
}

main();
