'use strict';
// `-i max`: usable CPUs, by affinity and by the quotas of control groups.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { ours, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');
const { usableCpus } = require('../../../node-addon/lib/cli/cpus.cjs');

const V2 = '31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n';
const V1 = '31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n' +
  '32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n' +
  '33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n';

/** What is found on a machine with these files and 8 CPUs. */
function on(files) {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-rs-cpus-'));
  try {
    const all = { 'proc/self/status': 'Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,8-10,12\n', ...files };
    for (const [name, text] of Object.entries(all)) {
      fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
      fs.writeFileSync(path.join(root, name), text);
    }
    return usableCpus(root);
  } finally {
    fs.rmSync(root, { recursive: true });
  }
}

test('without control groups the affinity decides', ours, () => {
  assert.deepEqual(on({}), { count: 8, why: '8 CPUs by affinity, no cgroup quota' });
  assert.deepEqual(on({ 'proc/self/status': 'Cpus_allowed_list:\t5\n' }),
    { count: 1, why: '1 CPU by affinity, no cgroup quota' });
  assert.equal(on({ 'proc/self/status': '' }).count, os.availableParallelism());
});

test('a cgroup v2 quota is rounded up, and the least of a group and its ancestors counts', ours, () => {
  const group = (quotas) => on({
    'proc/self/mountinfo': V2, 'proc/self/cgroup': '0::/system.slice/app.service\n',
    ...Object.fromEntries(Object.entries(quotas).map(([name, text]) => [`sys/fs/cgroup/${name}/cpu.max`, text])),
  });
  assert.deepEqual(group({ 'system.slice/app.service': '150000 100000\n' }),
    { count: 2, why: '8 CPUs by affinity, cgroup quota 1.5 rounded up' });
  assert.equal(group({ 'system.slice/app.service': 'max 100000\n', 'system.slice': '310000 100000\n' }).count, 4);
  assert.equal(group({ 'system.slice/app.service': '200000 100000\n', 'system.slice': '50000 100000\n' }).count, 1);
  assert.equal(group({ 'system.slice/app.service': '9000000 100000\n' }).count, 8);
  assert.equal(group({ 'system.slice/app.service': 'max 100000\n' }).why, '8 CPUs by affinity, no cgroup quota');
});

test('a container sees its own group as the root', ours, () => {
  const files = { 'proc/self/mountinfo': V2, 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.max': '300000 100000\n' };
  assert.equal(on(files).count, 3);
  // Without a namespace of its own it sees a path that is mounted elsewhere.
  const bound = V1.replace('0:29 / /sys', '0:29 /docker/abc /sys');
  assert.equal(on({
    'proc/self/mountinfo': bound, 'proc/self/cgroup': '4:memory:/\n3:cpu,cpuacct:/docker/abc\n',
    'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '250000\n', 'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
  }).count, 3);
});

test('a cgroup v1 quota', ours, () => {
  const group = (quota) => on({
    'proc/self/mountinfo': V1, 'proc/self/cgroup': '4:memory:/x\n3:cpu,cpuacct:/a/b\n0::/\n',
    'sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us': `${quota}\n`,
    'sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us': '100000\n',
  });
  assert.equal(group(450_000).count, 5);
  assert.equal(group(-1).why, '8 CPUs by affinity, no cgroup quota');
});

test('the first line says how many workers and why', ours, async () => {
  const { count, why } = usableCpus();
  for (const [given, expected, reason] of [
    ['max', count, ` (${why})`],
    ['-1', Math.max(1, count - 1), ` (${why}; 1 fewer, at least one)`],
    ['-500', 1, ''],
    ['2', 2, ''],
  ]) {
    const run = await cli({ args: ['-i', given, 'server.js'] }, async (started) => {
      await started.port();
      started.kill();
    });
    const [line] = run.said('stdout');
    assert.match(line, new RegExp(`^version \\S+, pid ${run.pid}: ${expected} workers? of server.js`));
    assert.ok(line.includes(reason), line);
    const listening = `listening on 127.0.0.1:[0-9]+ \\(primary: pid ${run.pid}; ${expected} worker`;
    assert.match(run.stdout, new RegExp(listening));
    assert.equal(run.code, 0);
  }
});

const several = { skip: ours.skip || (os.cpus().length < 2 && 'one CPU') };

test('the affinity of the process is what counts', several, async () => {
  const first = /^Cpus_allowed_list:\s*([0-9]+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1];
  const run = await cli({
    args: ['-i', 'max', 'server.js'], command: (line) => ['taskset', '-c', first, ...line],
  }, async (started) => {
    await started.port();
    await until(() => started.processes().length === 2, 'the primary and one worker');
    started.kill();
  });
  assert.match(run.said('stdout')[0], /: 1 worker of server\.js \(1 CPU by affinity, /);
});
