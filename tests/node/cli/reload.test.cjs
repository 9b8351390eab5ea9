'use strict';
// SIGHUP: all workers are replaced, and no connection is refused. A new one that fails costs nobody anything.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { connectionsAmong, descriptors, ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const VERSIONED = (version) => `
  process.on('exit', () => console.log('gone', process.pid));
  require('node:http').createServer((request, response) => {
    response.end(JSON.stringify({ pid: process.pid, instance: process.env.NODE_APP_INSTANCE, version: ${version} }));
  }).listen(0, '127.0.0.1', () => console.log('up', process.pid));`;

/** Requests, one after the other on two clients, until told to stop; gives what was answered. */
function load(port) {
  let going = true;
  const answers = [];
  const one = async () => {
    while (going) answers.push(JSON.parse((await request(port)).body));
  };
  const all = Promise.all([one(), one()]);
  return async () => {
    going = false;
    await all;
    return answers;
  };
}

test('a reload replaces all, one at a time, the new one first, and loses nothing', ours, async () => {
  const run = await cli({ args: ['-i', '3', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    const stopLoad = load(port);
    started.write('app.js', VERSIONED(2));
    started.kill('SIGHUP');
    await started.wait(/reload: done/);
    const before = await stopLoad();
    await until(() => started.processes().length === 4, 'the end of the old ones');
    // What is answered from now on is the new version, from every slot.
    const slots = new Set();
    while (slots.size < 3) {
      const { instance, version } = JSON.parse((await request(port)).body);
      assert.equal(version, 2);
      slots.add(instance);
    }
    assert.ok(before.some(({ version }) => version === 1));
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
  const [, ...lines] = run.stdout.split('reload: replacing 3 workers, one at a time\n')[1].split('reload: done')[0].split('\n').reverse();
  const events = lines.reverse().map((line) => /^\[([012])\] (up)|worker ([012]) (is now)/.exec(line)?.slice(1).join('')).filter(Boolean);
  assert.deepEqual(events, ['0up', '0is now', '1up', '1is now', '2up', '2is now']);
  for (const slot of [0, 1, 2]) {
    const told = run.stdout.split('\n').filter((line) => line.startsWith(`[${slot}] `)).map((line) => line.split(' ')[1]);
    assert.deepEqual(told, ['up', 'up', 'gone', 'gone'], `slot ${slot}`);
  }
  assert.equal(run.stdout.match(/reload: worker [012] is now pid [0-9]+, was [0-9]+\n/g).length, 3);
});

test('the old worker finishes its requests while the new one serves', ours, async () => {
  const run = await cli({ args: ['-i', '1', 'server.js'] }, async (started) => {
    const port = await started.port();
    const answer = request(port, { path: '/hold?value=release' });
    await started.wait(/holding for release/);
    started.kill('SIGHUP');
    const [, fresh, old] = await started.wait(/worker 0 is now pid ([0-9]+), was ([0-9]+)/);
    await until(async () => JSON.parse((await request(port)).body).pid === Number(fresh), 'the new worker\'s answers');
    // The old one is not waited for.
    await started.wait(/reload: done/);
    assert.equal(started.processes().length, 3);
    started.write('release', '');
    assert.equal((await answer).body, `held by ${old}`);
    await until(() => started.processes().length === 2, 'the end of the old one');
    started.kill();
  });
  assert.equal(run.code, 0);
});

const FAILURES = [
  ['ends', VERSIONED(1), 'process.exit(4);', 'exited with code 4 before it was ready'],
  ['crashes', VERSIONED(1), "process.kill(process.pid, 'SIGKILL');", 'was ended by SIGKILL before it was ready'],
  ['ends soon after it has listened', VERSIONED(1), `${VERSIONED(2)} setTimeout(() => process.exit(5), 100);`,
    'exited with code 5 before it was ready'],
  ['hangs', VERSIONED(1), 'setInterval(() => {}, 1000);', 'listens on nothing after 3\\.0 s'],
  ['hangs, and ignores SIGTERM', VERSIONED(1), 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000);',
    'listens on nothing after 3\\.0 s'],
  ['listens on less', `${VERSIONED(1)} require('node:net').createServer().listen('second.sock');`, VERSIONED(2),
    'does not listen on \\S*second\\.sock \\(the one before it does\\) after 3\\.0 s'],
  ['listens elsewhere', VERSIONED(1), VERSIONED(2).replace("0, '127.0.0.1'", "'moved.sock'"),
    'does not listen on 127\\.0\\.0\\.1:[0-9]+ \\(the one before it does\\) after 3\\.0 s'],
];

for (const [what, good, broken, why] of FAILURES) {
  test(`a new one that ${what} is refused, and the old ones go on, all of them`, ours, async () => {
    const args = ['-i', '2', '--listen-timeout', /after 3/.test(why) ? '3' : '20', 'app.js'];
    const run = await cli({ args, files: { 'app.js': good } }, async (started) => {
      const port = await started.port();
      const [, pids] = await started.wait(/listening on 127\S* .*2 workers: pids ([0-9 ]+)\)/);
      const stopLoad = load(port);
      started.write('app.js', broken);
      started.kill('SIGHUP');
      await started.wait(/reload refused/, { on: 'stderr' });
      const answers = await stopLoad();
      assert.ok(answers.every(({ version }) => version === 1));
      await until(() => started.processes().length === 3, 'the end of the new one');
      assert.deepEqual(new Set(answers.map(({ pid }) => String(pid))), new Set(pids.split(' ')));
      // Mended, it reloads after all.
      started.write('app.js', good.replace('version: 1', 'version: 3'));
      started.kill('SIGHUP');
      await started.wait(/reload: done/);
      await until(() => started.processes().length === 3, 'the end of the old ones');
      assert.equal(JSON.parse((await request(port)).body).version, 3);
      started.kill();
    });
    const refused = run.said().filter((said) => said.startsWith('reload'));
    assert.equal(refused.length, 1);
    assert.match(refused[0], new RegExp(`^reload refused: the new worker 0 \\(pid [0-9]+\\) ${why}; the old workers go on$`));
    assert.equal(run.code, 0);
  });
}

test('a new one whose address is taken keeps the old one', ours, async () => {
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    await started.port();
    started.write('app.js', "require('node:net').createServer().listen('/dev/null/x.sock');");
    started.kill('SIGHUP');
    await started.wait(/code 1 before it was ready \(cannot listen on \/dev\/null\/x\.sock: /, { on: 'stderr' });
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('one that fails after another was replaced: the reload stops, that one stays', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    started.write('app.js', `if (process.env.NODE_APP_INSTANCE === '1') process.exit(6); ${VERSIONED(2)}`);
    started.kill('SIGHUP');
    await started.wait(/reload stopped/, { on: 'stderr' });
    const versions = new Set();
    await until(async () => versions.add(JSON.parse((await request(port)).body).version).size === 2, 'both versions');
    started.kill();
  });
  assert.equal(run.code, 0);
  const line = /^reload stopped: the new worker 1 \(pid [0-9]+\) exited with code 6 before it was ready; 1 of 2 workers are new, and stay$/;
  assert.match(run.said()[0], line);
});

test('a reload during a reload takes its place', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    // It never gets ready.
    started.write('app.js', "console.log('stuck'); setInterval(() => {}, 1000);");
    started.kill('SIGHUP');
    await started.wait(/\[0\] stuck/);
    started.write('app.js', VERSIONED(2));
    started.kill('SIGHUP');
    await started.wait(/reload superseded: another reload was begun; 0 of 2 workers had been replaced\n/);
    await started.wait(/reload: done/);
    await until(() => started.processes().length === 3, 'the end of all others');
    for (let i = 0; i < 4; i++) assert.equal(JSON.parse((await request(port)).body).version, 2);
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('a stop during a reload ends old and new', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    await started.port();
    started.write('app.js', "console.log('stuck'); setInterval(() => {}, 1000);");
    started.kill('SIGHUP');
    await started.wait(/\[0\] stuck/);
    started.kill('SIGTERM');
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('the old one crashes while the new one starts: the new one has the slot', ours, async () => {
  const run = await cli({ args: ['-i', '1', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    const [, old] = await started.wait(/1 worker: pid ([0-9]+)\)/);
    started.write('app.js', `console.log('slow'); const t = setInterval(() => {
      if (require('node:fs').existsSync('go')) { clearInterval(t); ${VERSIONED(2)} } }, 5);`);
    started.kill('SIGHUP');
    await started.wait(/\] slow/);
    started.kill('SIGKILL', Number(old));
    await started.wait(/was ended by SIGKILL; its successor is starting/, { on: 'stderr' });
    fs.writeFileSync(`${started.directory}/go`, '');
    await started.wait(/reload: done/);
    assert.equal(JSON.parse((await request(port)).body).version, 2);
    assert.equal(started.processes().length, 2);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('reloads leave nothing behind in the primary', ours, async () => {
  await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': VERSIONED(1) } }, async (started) => {
    const port = await started.port();
    const reload = async (count) => {
      started.kill('SIGHUP');
      await started.wait(/reload: done/, { count });
      await request(port);
      await request(port);
    };
    await reload(1);
    const before = connectionsAmong(descriptors(started.pid)).length;
    for (let i = 2; i <= 4; i++) await reload(i);
    await until(() => connectionsAmong(descriptors(started.pid)).length <= before, 'as few descriptors as before');
    started.kill();
  });
});
