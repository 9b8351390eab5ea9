'use strict';
// Output that goes into files: a write that fails is not the end.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const { ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');
const { LogFile } = require('../../../node-addon/lib/cli/log-file.cjs');

/** A file that has room for so many bytes more; then its writes fail with `code`. */
function disk(code) {
  const state = { text: '', room: Infinity };
  const log = new LogFile(1, (fd, data, at, length) => {
    const count = Math.min(length, state.room);
    if (count === 0) throw Object.assign(new Error(code), { code });
    state.text += data.toString('utf8', at, at + count);
    state.room -= count;
    return count;
  });
  return { state, log };
}

for (const code of ['ENOSPC', 'EDQUOT', 'EIO', 'EFBIG']) {
  test(`${code}: lines are lost, and the first that can be written says how many`, ours, () => {
    for (let room = 0; room < 60; room++) {
      const { state, log } = disk(code);
      log.write('first\n');
      state.room = room;
      log.write('one\ntwo\n');
      for (let i = 0; i < 5; i++) log.write('three\n');
      state.room = Infinity;
      log.write('last\n');
      log.write('very last\n');
      const lines = state.text.split('\n');
      const said = lines.findLast((line) => /lines? w.* lost here/.test(line)) ?? '';
      if (room >= 8 + 5 * 6) {
        assert.equal(state.text, 'first\none\ntwo\nthree\nthree\nthree\nthree\nthree\nlast\nvery last\n');
        continue;
      }
      const [, lost] = new RegExp(`^cluster-rs: ([0-9]+) lines? w(?:as|ere) lost here \\(${code}\\)$`).exec(said) ?? ['', 0];
      const whole = lines.filter((line) => ['one', 'two', 'three'].includes(line)).length;
      assert.equal(Number(lost), 7 - whole, `with room for ${room}: ${JSON.stringify(state.text)}`);
      assert.ok(state.text.endsWith(`\n${said}${said && '\n'}last\nvery last\n`), JSON.stringify(state.text));
    }
  });
}

const hasPrlimit = spawnSync('prlimit', ['--version']).status === 0;

test('a file that may grow no further, and then may again', { skip: ours.skip || (!hasPrlimit && 'there is no prlimit(1)') }, async () => {
  const run = await cli({
    args: ['-i', '1', 'server.js'],
    command: (line) => ['bash', '-c', 'ulimit -S -f 8; exec "$@" >log', '-', ...line],
  }, async (started) => {
    const log = () => fs.existsSync(`${started.directory}/log`) ? fs.readFileSync(`${started.directory}/log`, 'utf8') : '';
    const [, port] = await until(() => /listening on \S+:([0-9]+) /.exec(log()), 'the first lines');
    for (let i = 0; i < 20; i++) await request(Number(port), { path: `/print?value=${'z'.repeat(1000)}%0A` });
    await until(() => fs.statSync(`${started.directory}/log`).size === 8192, 'a full file');
    const raised = spawnSync('prlimit', ['--pid', String(started.pid), '--fsize=unlimited:']);
    assert.equal(raised.status, 0, String(raised.stderr));
    await request(Number(port), { path: '/print?value=again%0A' });
    await until(() => /\ncluster-rs: 1[0-9] lines were lost here \(EFBIG\)\n\[0\] again\n$/.test(log()), 'the next line');
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('/dev/full', ours, async () => {
  const run = await cli({
    args: ['-i', '1', 'server.js'], env: { PORT: '0' }, command: (line) => ['sh', '-c', 'exec "$@" >/dev/full', '-', ...line],
    files: { 'server.js': `require('node:http').createServer().listen(0, () => { console.log('x'); console.error('up'); });` },
  }, async (started) => {
    await started.wait(/\[0\] up/, { on: 'stderr' });
    started.kill();
  });
  assert.equal(run.code, 0);
});
