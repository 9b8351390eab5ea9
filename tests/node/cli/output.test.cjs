'use strict';
// What the workers print: whole lines behind a prefix, all of them, no faster than they are read.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');
const { LONGEST, Splitter, prefixOf } = require('../../../node-addon/lib/cli/lines.cjs');

const lines = (text, slot) => text.split('\n')
  .filter((line) => line.startsWith(`[${slot}] `)).map((line) => line.slice(4));

test('chunks become lines wherever they are cut', ours, () => {
  const text = Buffer.from('one\n\ntwö \u{1f600}\r\nthree');
  for (let size = 1; size <= text.length; size++) {
    const splitter = new Splitter(Buffer.from('> '));
    let out = '';
    for (let at = 0; at < text.length; at += size) {
      const piece = splitter.push(text.subarray(at, at + size));
      if (piece !== null) {
        assert.ok(String(piece).endsWith('\n'));
        out += piece;
      }
    }
    assert.equal(out, '> one\n> \n> twö \u{1f600}\r\n');
    assert.equal(String(splitter.end()), '> three\n');
    assert.equal(splitter.end(), null);
  }
});

test('a line without end is passed on in pieces', ours, () => {
  const splitter = new Splitter(Buffer.from('> '));
  assert.equal(splitter.push(Buffer.alloc(LONGEST - 1, 'a')), null);
  const piece = splitter.push(Buffer.from('a'));
  assert.equal(piece.length, LONGEST + 3);
  assert.equal(splitter.end(), null);
});

test('the prefix is the slot, as wide for all', ours, () => {
  assert.equal(String(prefixOf(3, 10, false)), '[3] ');
  assert.equal(String(prefixOf(3, 11, false)), '[ 3] ');
  assert.match(String(prefixOf(0, 2, true)), /^\x1b\[\d+m\[0\]\x1b\[0m $/);
});

const CHATTER = `
  const fs = require('node:fs');
  const me = process.env.NODE_APP_INSTANCE;
  // In many small pieces and on both streams, so that lines would mix if anything could mix them.
  for (let i = 0; i < 900; i++) {
    for (const fd of [1, 2]) {
      const line = \`\${fd === 1 ? 'out' : 'err'} \${me} \${i} \${'x'.repeat(i * 7 % 500)} end\\n\`;
      const cut = i % line.length;
      fs.writeSync(fd, line.slice(0, cut));
      fs.writeSync(fd, line.slice(cut));
    }
  }
  fs.writeSync(1, 'last words');
  process.kill(process.pid, 'SIGKILL');`;

test('of three workers, on both streams, no line is torn or lost, though they are killed', ours, async () => {
  for (const together of [false, true]) {
    const run = await cli({
      args: ['-i', '3', '--respawn', 'never', 'chatter.js'], files: { 'chatter.js': CHATTER },
      command: together ? (line) => ['bash', '-c', 'set -o pipefail; "$@" 2>&1 | cat', '-', ...line] : undefined,
    }, ({ process: { stdout } }) => {
      // A reader that is a little slow: then a write stops in the middle of a line, where another could get in.
      stdout.on('data', () => {
        stdout.pause();
        setTimeout(() => stdout.resume(), 10);
      });
    });
    assert.equal(run.code, 128 + 9);
    for (const slot of [0, 1, 2]) {
      for (const [name, stream] of [['out', run.stdout], ['err', together ? run.stdout : run.stderr]]) {
        const found = lines(stream, slot).filter((line) => line.startsWith(name));
        const expected = Array.from({ length: 900 }, (_, i) => `${name} ${slot} ${i} ${'x'.repeat(i * 7 % 500)} end`);
        assert.deepEqual(found, expected);
      }
      assert.equal(lines(run.stdout, slot).filter((line) => !line.startsWith('err')).at(-1), 'last words');
    }
    const all = (run.stdout + run.stderr).split('\n');
    const strange = all.filter((line) => !/^(\[[012]\] .*|cluster-rs: .*|)$/.test(line));
    assert.deepEqual(strange, []);
  }
});

test('a reader that is slow slows the workers, and gets everything in the end', ours, async () => {
  const total = 30_000;
  const run = await cli({
    args: ['-i', '2', 'flood.js'], files: {
      'flood.js': `
        const fs = require('node:fs');
        for (let i = 0; i < ${total}; i++) {
          fs.writeSync(1, \`\${i} \${'y'.repeat(200)}\\n\`);
          if (i % 100 === 0) fs.writeFileSync('progress' + process.env.NODE_APP_INSTANCE, String(i));
        }`,
    },
  }, async (started) => {
    const { readFileSync } = require('node:fs');
    started.process.stdout.pause();
    const progress = () => [0, 1].map((slot) => {
      try {
        return Number(readFileSync(`${started.directory}/progress${slot}`, 'utf8'));
      } catch {
        return 0;
      }
    });
    // Both begin, and both stand still long before the end: what is between them and us is bounded.
    await until(() => progress().every((count) => count >= 100), 'the first lines');
    let before = -1;
    await until(async () => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const now = progress().reduce((sum, count) => sum + count);
      return now === before || (before = now, false);
    }, 'a standstill');
    assert.ok(before < total, `${before} of ${2 * total} lines were taken from the workers though nobody read them`);
    started.process.stdout.resume();
  });
  assert.equal(run.code, 0);
  for (const slot of [0, 1]) {
    const numbers = lines(run.stdout, slot).map((line) => parseInt(line, 10));
    assert.equal(numbers.length, total);
    assert.ok(numbers.every((number, i) => number === i));
  }
});

test('a reader that goes away does not end the service', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const port = await started.port();
    started.process.stdout.destroy();
    for (let i = 0; i < 20; i++) await request(port, { path: `/print?value=${'z'.repeat(1000)}%0A` });
    assert.equal((await request(port)).status, 200);
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('what a worker left behind keeps nobody waiting', ours, async () => {
  const run = await cli({
    args: ['-i', '1', 'parent.js'], files: {
      'parent.js': `
        const child = require('node:child_process').spawn('sleep', ['600'], { stdio: 'inherit', detached: true });
        console.log('left', child.pid);
        child.unref();`,
    },
  }, async (started) => {
    const [, pid] = await started.wait(/left ([0-9]+)/);
    await until(() => started.ended !== null || !started.processes().includes(started.pid), 'the end of the primary');
    process.kill(Number(pid), 'SIGKILL');
  });
  assert.equal(run.code, 0);
});

test('no colours elsewhere', ours, async () => {
  const run = await cli({ args: ['-i', '1', 'hello.js'], files: { 'hello.js': "console.log('hello');" } });
  assert.doesNotMatch(run.stdout, /\x1b/);
  assert.match(run.stdout, /^\[0\] hello$/m);
});
