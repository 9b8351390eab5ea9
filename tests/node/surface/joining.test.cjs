'use strict';

// A process that was started as a worker never starts workers, whatever kept it from joining. Everything that could multiply runs
// in a pid namespace of its own, with a limit.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { constants: { errno } } = os;
const { MODULE, ours } = require('../support/index.cjs');

const FIXTURES = path.join(__dirname, 'fixtures');
// Before Linux 6.14 pid_max is the whole machine's, and the sweep's own limit has to do.
const CAGE = `version=$(uname -r)
major=\${version%%.*} minor=\${version#*.}
if [ "$major" -gt 6 ] || { [ "$major" -eq 6 ] && [ "\${minor%%.*}" -ge 14 ]; }; then echo 400 >/proc/sys/kernel/pid_max; fi
ip link set lo up && "$@"`;
const SPOIL = path.join(os.tmpdir(), `cluster-rs-spoil-${process.pid}`);

function inCage(command, options) {
  return spawnSync('unshare', ['-n', '-p', '-f', '--mount-proc', '--kill-child', 'sh', '-c', CAGE, 'cage', ...command],
    { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL', maxBuffer: 1 << 26, ...options });
}

function whyNot() {
  if (ours.skip) return ours.skip;
  if (inCage(['true']).status !== 0) return 'a pid namespace with a limit is not allowed here';
  const made = spawnSync(process.env.CC ?? 'cc', ['-Wall', '-Wextra', '-Werror', '-o', SPOIL, path.join(FIXTURES, 'spoil.c')],
    { encoding: 'utf8' });
  if (made.error) return 'there is no C compiler';
  assert.equal(made.status, 0, made.stderr);
  if (spawnSync(SPOIL, [], { env: { JOIN: 'refuse=shutdown:1', NODE: '/bin/true' } }).status === 77) return 'seccomp filters are not allowed here';
  return false;
}

const skip = whyNot();
test.after(() => fs.rmSync(SPOIL, { force: true }));

function sweep(cases) {
  const clean = { ...process.env, CLUSTER_MODULE: MODULE, SPOIL, CASES: JSON.stringify(cases) };
  for (const name of ['NODE_OPTIONS', 'NODE_TEST_CONTEXT', 'NODE_CHANNEL_FD', 'NODE_UNIQUE_ID']) delete clean[name];
  const { status, stdout, stderr } = inCage([process.execPath, path.join(FIXTURES, 'sweep.cjs')], { env: clean });
  assert.equal(status, 0, stderr);
  const { outcomes, surplus } = JSON.parse(stdout);
  assert.deepEqual(surplus, [], 'processes beyond the workers and their primary');
  assert.equal(outcomes.length, cases.length);
  for (const { name, said } of outcomes) assert.ok(!said.some(({ forked }) => forked), name);
  return new Map(outcomes.map((outcome) => [outcome.name, outcome]));
}

// As a worker of Node's cluster; with its channel and without its id, as a wrapper leaves it; and as one behind a runner, or of a
// primary in C.
const KINDS = {
  'of Node': '',
  'without its id': 'unset=NODE_UNIQUE_ID ',
  'of another': 'unset=NODE_UNIQUE_ID unset=NODE_CHANNEL_FD ',
};

function every(cases, kinds = Object.keys(KINDS)) {
  return kinds.flatMap((kind) => cases.map(([name, join, script]) => ({ name: `${name}, ${kind}`, join: KINDS[kind] + join, script })));
}

const roleOf = ({ said }) => said.find(({ role }) => role) ?? {};

function expectRefused(outcome) {
  const { role, code, errno: number, message } = roleOf(outcome);
  assert.deepEqual([role, code, number], ['primary', 'ENOTCONN', -errno.ENOTCONN], JSON.stringify(outcome));
  assert.match(message, /was started as a worker.*wrapper.*keep both/);
}

function expectWorker(outcome) {
  assert.equal(roleOf(outcome).role, 'worker', JSON.stringify(outcome));
}

// fcntl(2) by its command, recvmsg(2) by its flags, mmap(2) where it is shared.
const fcntl = (command, number) => `refuse=fcntl:${number}:1:4294967295:${command}`;
const F_SETFD = 2, F_SETOWN = 8, F_SETSIG = 10, F_DUPFD_CLOEXEC = 1030;
const PEEKS = '2:2:2', TAKES_DESCRIPTORS = '2:1073741824:1073741824', SHARED = '3:1:1';

test('a system call of joining is refused: nobody multiplies, and who is a worker stays one', { skip }, () => {
  const { EPERM, ENOSYS, ENOMEM, EMFILE, EINVAL } = errno;
  const found = sweep(every([
    ['clone3', `refuse=clone3:${EPERM}`],
    ['sendmsg', `refuse=sendmsg:${EPERM}`],
    ['recvmsg', `refuse=recvmsg:${ENOSYS}`],
    ['the look at the hello', `refuse=recvmsg:${EPERM}:${PEEKS}`],
    ['the hello', `refuse=recvmsg:${EPERM}:${TAKES_DESCRIPTORS}`],
    ['getsockopt', `refuse=getsockopt:${ENOSYS}`],
    ['the page', `refuse=mmap:${ENOMEM}:${SHARED}`],
    ['close-on-exec', fcntl(F_SETFD, EPERM)],
    ['F_SETOWN', fcntl(F_SETOWN, ENOSYS)],
    ['F_SETSIG', fcntl(F_SETSIG, EINVAL)],
    ['another number', fcntl(F_DUPFD_CLOEXEC, EMFILE)],
  ], ['of Node', 'of another']));
  for (const what of ['the page', 'F_SETOWN', 'F_SETSIG']) {
    for (const kind of ['of Node', 'of another']) {
      assert.equal(roleOf(found.get(`${what}, ${kind}`)).listening, true, JSON.stringify(found.get(`${what}, ${kind}`)));
    }
  }
  for (const what of ['the look at the hello', 'getsockopt', 'close-on-exec']) expectWorker(found.get(`${what}, of Node`));
  for (const what of ['sendmsg', 'the hello', 'close-on-exec', 'another number']) {
    const outcome = found.get(`${what}, of another`);
    expectWorker(outcome);
    assert.ok(roleOf(outcome).listening || roleOf(outcome).code in errno, JSON.stringify(outcome));
  }
  for (const what of ['recvmsg', 'the look at the hello', 'getsockopt']) expectRefused(found.get(`${what}, of another`));
});

test('a variable is damaged, or all are gone', { skip }, () => {
  const names = ['CL_WORKER_ID', 'CL_WORKER_SLOT', 'CL_CHANNEL_FD'];
  const damages = names.flatMap((name) => [
    [`no ${name}`, `unset=${name}`],
    ...['', 'x', '77777', '99999999999'].map((value) => [`${name} is "${value}"`, `set=${name}=${value}`]),
  ]);
  const cleared = ['all are gone', names.map((name) => `unset=${name}`).join(' ')];
  const found = sweep([
    ...every([...damages, cleared], ['of another']),
    ...every([damages[0], cleared], ['of Node']),
    ...every([['nothing', ''], damages[0], cleared], ['without its id']),
  ]);
  for (const [name, outcome] of found) (name.endsWith('of Node') ? expectWorker : expectRefused)(outcome);
});

test('the channel is closed, something else, or short of descriptors; node:cluster comes first', { skip }, () => {
  const found = sweep([
    ...every([['closed', 'close'], ['foreign', 'foreign']]),
    ...every([['few', 'nofile=22'], ['fewer', 'nofile=20']], ['of Node', 'of another']),
    ...every([['no preload', 'unset=NODE_OPTIONS'], ['first', 'unset=NODE_OPTIONS set=CLUSTER_FIRST=1']], ['of another']),
    ...every([['no addon', 'unset=NODE_OPTIONS set=CLUSTER_RS_ADDON=/nonexistent']], ['of another']),
    ...every([['a runner', 'close', 'npm.cjs']], ['of another']),
  ]);
  for (const name of ['foreign, without its id', 'foreign, of another', 'closed, of another', 'first, of another', 'a runner, of another']) {
    expectRefused(found.get(name));
  }
  expectWorker(found.get('foreign, of Node'));
  assert.equal(roleOf(found.get('no preload, of another')).listening, true);
  const { said } = found.get('no addon, of another');
  assert.deepEqual([said[0].noModule, roleOf({ said }).code], ['ERR_CLUSTER_RS_ADDON', 'ENOTCONN']);
});
