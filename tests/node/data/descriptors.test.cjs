'use strict';

// A worker or a primary that has no descriptor left: the clients are served by others or later, and all is well again
// as soon as there are descriptors.

const test = require('node:test');
const assert = require('node:assert/strict');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const { descriptors, mechanism, ours, play, until } = require('../support/index.cjs');
const { hold, release, tally } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const noPrlimit = spawnSync('prlimit', ['--version']).error && 'there is no prlimit';
const skip = noPrlimit || ours.skip;

function keep(w) {
  require('node:net').createServer((socket) => {
    socket.on('error', () => {}).resume().write(`${w.id}`);
  }).listen(0, '127.0.0.1');
}

const setLimit = (pid, soft) => execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${soft}:`]);

function getLimit(pid) {
  const text = execFileSync('prlimit', ['--pid', `${pid}`, '--nofile', '--output', 'SOFT', '--noheadings']);
  return Number(String(text).trim());
}

// From now on the process can open `more` descriptors; gives what restores the old limit.
function limitDescriptors(pid, more) {
  const before = getLimit(pid);
  const open = new Set(Object.keys(descriptors(pid)).map(Number));
  let limit = 0;
  for (let free = more; free > 0 || open.has(limit); limit++) if (!open.has(limit)) free--;
  setLimit(pid, limit);
  return () => setLimit(pid, before);
}

// The same for a worker. A limit that is lowered from outside it notices in the next turn of its event loop; whoever is still
// given to it by then goes to others.
async function limitWorker(rig, id, more) {
  const restore = limitDescriptors(rig.pid(id), more);
  for (let turn = 0; turn < 2; turn++) await rig.inWorker(id, () => {});
  return restore;
}

test('a worker without a free descriptor: the others answer, and it is back when it has one', { skip }, async (t) => {
  const rig = await startRig(t, { serve: keep });
  const restore = await limitWorker(rig, 1, 0);
  const held = await Promise.all(Array.from({ length: 20 }, () => hold({ port: rig.port })));
  assert.deepEqual(new Set(held.map((socket) => socket.greeting)), new Set(['2']));
  await release(held);
  restore();
  const again = [];
  await until(async () => {
    again.push(await hold({ port: rig.port }));
    return again.at(-1).greeting === '1';
  }, 'the worker is back');
  for (let i = 0; i < 40; i++) again.push(await hold({ port: rig.port }));
  const own = again.slice(-40).filter((socket) => socket.greeting === '1').length;
  assert.ok(Math.abs(own - 20) <= 6, `it got ${own} of 20`);
  await release(again);
});

test('a worker that has no free descriptor soon after its start goes on', { skip }, async (t) => {
  const rig = await startRig(t, { serve: keep });
  const pid = rig.pid(1);
  const restore = await limitWorker(rig, 1, 0);
  // By then it has looked how much memory it has.
  await new Promise((resolve) => setTimeout(resolve, 800));
  restore();
  assert.equal(await rig.inWorker(1, () => process.pid), pid);
});

test('a worker runs out of descriptors: it takes what it can, and more when some are freed', { skip }, async (t) => {
  const rig = await startRig(t, { serve: keep });
  const restore = await limitWorker(rig, 1, 8);
  const held = await Promise.all(Array.from({ length: 60 }, () => hold({ port: rig.port })));
  const own = held.filter((socket) => socket.greeting === '1');
  assert.ok(own.length > 0 && own.length <= 8, `it took ${own.length}`);
  await release(own);
  const next = [];
  await until(async () => {
    next.push(await hold({ port: rig.port }));
    return next.at(-1).greeting === '1';
  }, 'the worker takes another one within its old limit');
  restore();
  await release([...held, ...next]);
});

test('no worker has a free descriptor: the clients wait, and are served when there are some', { skip }, async (t) => {
  const rig = await startRig(t, { serve: keep });
  const restores = await Promise.all([1, 2].map((id) => limitWorker(rig, id, 0)));
  let served = 0;
  const clients = Array.from({ length: 12 }, () => hold({ port: rig.port }).finally(() => { served++; }));
  // Both have refused by now what they were given. In rotation nobody is given any before he accepts.
  await until(async () => {
    const { addresses: [address] } = await rig.stats();
    return address.accepted > 0 || mechanism() === 'rotation';
  }, 'a connection was offered');
  assert.equal(served, 0);
  for (const restore of restores) restore();
  const held = await Promise.all(clients);
  for (const id of ['1', '2']) {
    await until(async () => {
      held.push(await hold({ port: rig.port }));
      return held.at(-1).greeting === id;
    }, `worker ${id} is back`);
  }
  await release(held);
});

test('an idle worker\'s table of descriptors stays as small as what is in it', { skip }, async (t) => {
  const rig = await startRig(t, { serve: keep });
  await release([await hold({ port: rig.port }), await hold({ port: rig.port })]);
  for (const id of [1, 2]) {
    const [, size] = /^FDSize:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/${rig.pid(id)}/status`, 'utf8'));
    const highest = Math.max(...Object.keys(descriptors(rig.pid(id))).map(Number));
    assert.ok(Number(size) < 512, `room for ${size} with ${highest} as the highest and a limit of ${getLimit(rig.pid(id))}`);
  }
});

test('a worker without a free descriptor leaves as any other', { skip }, async (t) => {
  const rig = await startRig(t, { serve: keep });
  const held = [await hold({ port: rig.port }), await hold({ port: rig.port })];
  await limitWorker(rig, 1, 0);
  await rig.inPrimary((cluster) => { cluster.workers[1].disconnect(); });
  await release(held);
  const { code, signal } = await rig.event('exit', ({ id }) => id === 1);
  assert.deepEqual([code, signal], [0, null]);
  const last = await hold({ port: rig.port });
  assert.equal(last.greeting, '2');
  await release([last]);
});

test('the primary runs out of descriptors: who connects waits, and is served later', { skip }, async (t) => {
  const rig = await startRig(t, { serve: keep });
  const restore = limitDescriptors(rig.primary.pid, 0);
  const clients = Array.from({ length: 12 }, () => hold({ port: rig.port }));
  // Its JavaScript works on while nothing can be accepted.
  assert.equal(await rig.inPrimary((cluster) => Object.keys(cluster.workers).length), 2);
  restore();
  const held = await Promise.all(clients);
  assert.equal(held.length, 12);
  await release(held);
  const counts = await tally(20, 1, async () => {
    const socket = await hold({ port: rig.port });
    await release([socket]);
    return socket.greeting;
  });
  assert.deepEqual([...counts.keys()].sort(), ['1', '2']);
});

const withPrlimit = { skip: noPrlimit };

test('fork() without a free descriptor: an \'error\' of the worker, and the next one works', withPrlimit, async (t) => {
  const rig = await startRig(t, { serve: keep });
  for (let i = 0; i < 2; i++) {
    const restore = limitDescriptors(rig.primary.pid, 0);
    const outcome = rig.inPrimary((cluster) => new Promise((resolve) => {
      cluster.fork().once('error', (error) => resolve({ code: error.code, errno: error.errno }));
    }));
    try {
      assert.deepEqual(await outcome, { code: 'EMFILE', errno: -24 });
    } finally {
      restore();
    }
  }
  await rig.fork(1);
  const held = [];
  for (let i = 0; i < 6; i++) held.push(await hold({ port: rig.port }));
  assert.equal(new Set(held.map((socket) => socket.greeting)).size, 3);
  await release(held);
});

test('fork() with a few free descriptors, before there is an engine and after: the worker is the engine\'s, or there is none', { skip }, async () => {
  const run = await play({
    async primary({ cluster, directory, report, happens }) {
      const fs = require('node:fs');
      require('node:child_process').execFileSync('prlimit', ['--pid', `${process.pid}`, '--nofile=100:']);
      const held = [];
      for (;;) {
        try {
          held.push(fs.openSync('/dev/null'));
        } catch {
          break;
        }
      }
      cluster.setupPrimary({ listen: [`unix:${directory}/`] });
      const outcomes = [];
      for (let free = 0; free <= 16; free++) {
        const worker = cluster.fork();
        if (worker.process.pid === undefined) {
          outcomes.push((await happens(worker, 'error'))[0].code);
        } else {
          outcomes.push(cluster.stats().workers.some(({ pid }) => pid === worker.process.pid));
          worker.process.kill('SIGKILL');
          await happens(worker, 'exit');
        }
        fs.closeSync(held.pop());
      }
      for (const fd of held) fs.closeSync(fd);
      report('outcomes', outcomes);
    },
    worker: () => setInterval(() => {}, 1000),
  });
  const outcomes = run.one('outcomes');
  assert.deepEqual(outcomes.filter((one) => one !== 'EMFILE' && one !== true), []);
  assert.equal(outcomes[0], 'EMFILE');
});
