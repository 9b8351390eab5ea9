'use strict';
// More workers and fewer, workers that have done enough, workers that say when they are ready, several at a time.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

/** Asks again and again, on two clients, until told to stop; nothing fails. */
function load(port) {
  let going = true;
  const all = Promise.all([1, 2].map(async () => {
    while (going) assert.equal((await request(port)).status, 200);
  }));
  return () => {
    going = false;
    return all;
  };
}

const instanceOf = async (port) => JSON.parse((await request(port)).body).instance;

/** Resolves when exactly these slots answer, and no other process is left. */
async function slotsOf(started, port, expected) {
  await until(() => started.processes().length === expected.length + 1, `${expected.length} workers`);
  const found = new Set();
  await until(async () => found.add(await instanceOf(port)).size === expected.length, `${expected.length} slots`);
  assert.deepEqual([...found].sort(), expected);
}

test('SIGTTIN and SIGTTOU: one worker more, one fewer, and nobody notices', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'server.js'] }, async (started) => {
    const port = await started.port();
    const stopLoad = load(port);
    started.kill('SIGTTIN');
    await started.wait(/SIGTTIN: 3 workers from here on/);
    await slotsOf(started, port, ['0', '1', '2']);
    started.kill('SIGTTOU');
    await started.wait(/SIGTTOU: 2 workers from here on/);
    await slotsOf(started, port, ['0', '1']);
    started.kill('SIGTTOU');
    await started.wait(/SIGTTOU: 1 worker from here on/);
    await slotsOf(started, port, ['0']);
    started.kill('SIGTTOU');
    await started.wait(/SIGTTOU: 1 worker, and no fewer/);
    started.kill('SIGTTIN');
    await started.wait(/SIGTTIN: 2 workers from here on/);
    await slotsOf(started, port, ['0', '1']);
    await stopLoad();
    // Who has come like this is replaced, too.
    started.kill('SIGHUP');
    await started.wait(/reload: replacing 2 workers/);
    await started.wait(/reload: done/);
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('fewer: a worker that goes finishes its requests; its script gets its signal', ours, async () => {
  const run = await cli({ args: ['-i', '2', 'app.js'], files: {
    'app.js': `require('./server.js');
      process.on('SIGTERM', () => { console.log('begins'); setTimeout(() => { console.log('done'); process.exit(0); }, 100); });`,
  } }, async (started) => {
    const port = await started.port();
    started.kill('SIGTTOU');
    await started.wait(/\[1\] done/);
    await until(() => started.processes().length === 2, 'one worker');
    assert.equal(await instanceOf(port), '0');
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('--recycle: after so many requests a worker is replaced, and no request fails', ours, async () => {
  const run = await cli({ args: ['-i', '1', '--recycle', 'requests=25,jitter=0', 'server.js'] }, async (started) => {
    const port = await started.port();
    const [, first] = await started.wait(/1 worker: pid ([0-9]+)\)/);
    for (let i = 0; i < 25; i++) assert.equal((await request(port)).status, 200);
    const [, fresh, old] = await started.wait(/recycle: worker 0 is now pid ([0-9]+), was ([0-9]+)\n/);
    assert.equal(old, first);
    await until(() => started.processes().length === 2, 'the end of the old one');
    assert.equal(JSON.parse((await request(port)).body).pid, Number(fresh));
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

test('--recycle: by age, again and again, each slot', ours, async () => {
  const run = await cli({ args: ['-i', '2', '--recycle', 'age=1s,jitter=0', 'server.js'] }, async (started) => {
    const stopLoad = load(await started.port());
    for (const slot of [0, 1]) await started.wait(new RegExp(`recycle: worker ${slot} is now pid`), { count: 2 });
    await stopLoad();
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});

const READY = `
  require('./server.js');
  const fs = require('node:fs');
  console.log('waits');
  const timer = setInterval(() => {
    if (!fs.existsSync('ready')) return;
    clearInterval(timer);
    process.send('ready');
  }, 5);`;

test('--wait-ready: a new worker has its place when it has said so, and one that never does is refused', ours, async () => {
  const args = ['-i', '1', '--wait-ready', '--listen-timeout', '4', 'app.js'];
  const run = await cli({ args, files: { 'app.js': READY, ready: '' } }, async (started) => {
    const port = await started.port();
    const [, first] = await started.wait(/1 worker: pid ([0-9]+)\)/);
    require('node:fs').unlinkSync(`${started.directory}/ready`);
    started.kill('SIGHUP');
    await started.wait(/has not said that it is ready after 4\.0 s; the old workers go on/, { on: 'stderr' });
    assert.equal(JSON.parse((await request(port)).body).pid, Number(first));
    started.kill('SIGHUP');
    await started.wait(/waits/, { count: 3 });
    assert.equal(JSON.parse((await request(port)).body).pid, Number(first));
    started.write('ready', '');
    await started.wait(/reload: worker 0 is now pid/);
    await started.wait(/reload: done/);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('--parallel: so many at a time', ours, async () => {
  const text = "console.log('begins'); require('node:fs').existsSync('go') && require('./server.js'); setInterval(() => {}, 1000);";
  const run = await cli({ args: ['-i', '3', '--parallel', '2', 'app.js'], files: { 'app.js': text, go: '' } }, async (started) => {
    await started.port();
    require('node:fs').unlinkSync(`${started.directory}/go`);
    started.kill('SIGHUP');
    await started.wait(/reload: replacing 3 workers, 2 at a time/);
    // Two of the old and the new ones stand beside each other, and no third.
    await started.wait(/begins/, { count: 5 });
    assert.equal(started.processes().length, 6);
    started.write('go', '');
    started.write('app.js', "console.log('begins'); require('./server.js');");
    started.kill('SIGHUP');
    await started.wait(/reload: done/);
    started.kill();
  });
  assert.equal(run.code, 0);
});

for (const policy of ['none', 'least-loaded', 'source-hash']) {
  test(`--policy ${policy}: a reload loses nothing`, ours, async () => {
    const run = await cli({ args: ['-i', '2', '--policy', policy, 'server.js'] }, async (started) => {
      const port = await started.port();
      const stopLoad = load(port);
      for (const count of [1, 2]) {
        started.kill('SIGHUP');
        await started.wait(/reload: done/, { count });
      }
      await stopLoad();
      await until(() => started.processes().length === 3, 'the end of the old ones');
      started.kill();
    });
    assert.equal(run.code, 0);
    assert.equal(run.stderr, '');
  });
}
