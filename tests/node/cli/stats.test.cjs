'use strict';
// --stats: what each worker does, as a table or as lines.

const test = require('node:test');
const assert = require('node:assert/strict');
const { exactTurns, happens, mechanism, ours, request } = require('../support/index.cjs');
const { cli, terminal } = require('./fixtures/run.cjs');
const { age, columns } = require('../../../node-addon/lib/cli/stats.cjs');

test('rows become aligned columns', ours, () => {
  assert.deepEqual(columns([{ a: 1, long: 'x' }, { a: 'wide', long: '' }]), ['a     long', '1     x', 'wide']);
  assert.deepEqual(columns([]), []);
  assert.deepEqual([0, 59_999, 61_000, 3_600_000, 90_061_000].map(age), ['0s', '59s', '1m1s', '1h0m', '25h1m']);
});

test('without a terminal it is a line at each interval, with what the engine has counted', ours, async () => {
  const env = exactTurns();
  const { CL_MECHANISM: kind = mechanism() } = env;
  const run = await cli({ args: ['-i', '2', '--stats=200ms', 'server.js'], env }, async (started) => {
    const port = await started.port();
    for (let i = 0; i < 10; i++) await request(port);
    await started.wait(new RegExp(`stats: worker 0 pid [0-9]+ listening delivered 5 waiting 0, ` +
      `worker 1 pid [0-9]+ listening delivered 5 waiting 0; ` +
      `127\\.0\\.0\\.1:${port} ${kind} rr accepted 10 reclaimed 0 lost 0\n`));
    await started.wait(/stats: /, { count: 3 });
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.doesNotMatch(run.stdout, /\x1b/);
});

/** What a terminal shows after this text; it knows what the table is drawn with. */
function screen(text) {
  const rows = [''];
  let row = 0;
  for (const [, up, clear, colour, newline, back, plain] of
    text.matchAll(/\x1b\[([0-9]+)A|(\x1b\[J)|(\x1b\[[0-9;]*m)|(\n)|(\r)|([^\x1b\r\n]+)/g)) {
    if (up !== undefined) row -= Number(up);
    else if (clear !== undefined) rows.splice(row, rows.length, '');
    else if (newline !== undefined) rows[++row] ??= '';
    else if (plain !== undefined) rows[row] += plain;
    else assert.ok(colour !== undefined || back !== undefined);
  }
  return rows;
}

test('on a terminal it is a table that is redrawn below the workers\' lines, and gone at the end',
  terminal, async () => {
    const run = await cli({
      args: ['-i', '2', '--stats=200ms', 'server.js'], stdio: ['pipe', 'pipe', 'pipe'],
      command: (line) => ['script', '-qec', `stty cols 100 rows 30; exec '${line.join("' '")}'`, '/dev/null'],
    }, async (started) => {
      const port = await started.port();
      for (let i = 0; i < 4; i++) await request(port);
      await request(port, { path: '/print?value=a%20line%0A' });
      await started.wait(/slot +pid +state .*\r\n0 .*\r\n1 .*\r\naddress .*accepted.*\r\n127.* 5 /);
      await request(port, { path: '/print?value=another%0A' });
      await started.wait(/another/);
      await started.wait(/slot +pid/, { count: 4 });
      const shown = screen(started.stdout.replace(/\r\n/g, '\n'));
      const text = shown.join('\n');
      assert.equal(text.match(/^slot +pid +state +up +restarts +delivered +waiting$/gm).length, 1, text);
      assert.match(text, /\] a line\n(.*\n)*.*\] another\nslot +pid/);
      assert.match(text, /^0 +[0-9]+ +listening +[0-9]+s +0 +[0-9]+ +0$/m);
      started.process.stdin.write('\x03');
      await happens(started.process, 'exit');
    });
    assert.equal(run.code, 0);
    const left = screen(run.stdout.replace(/\r\n/g, '\n')).join('\n');
    assert.doesNotMatch(left, /^slot/m);
    assert.match(left, /SIGINT: stopping 2 workers\n*$/);
  });
