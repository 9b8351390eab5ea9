'use strict';

// What a program is told when the addon is missing, damaged or for another machine.
// node load.cjs --list; node load.cjs CASE PACKAGE SCRATCH, where PACKAGE is the folder of an installed cluster-rs.
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const [, , name, source, scratch] = process.argv;
const modules = scratch && path.join(scratch, 'node_modules');
const home = scratch && path.join(modules, 'cluster-rs');
const file = `cluster-rs.linux-${process.arch}-gnu.node`;

// A child without what this process inherited, in SCRATCH: node_modules/cluster-rs there is a copy, to be spoiled.
function node(args, env = {}) {
  const result = spawnSync(process.execPath, args, {
    cwd: scratch,
    env: { PATH: process.env.PATH, ...env },
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status: result.status, signal: result.signal, stdout: result.stdout, stderr: result.stderr };
}

const TELL = `
  try {
    require('cluster-rs');
    console.log(JSON.stringify({ loaded: true }));
  } catch ({ name, code, message, cause }) {
    const causes = (cause?.errors ?? (cause ? [cause] : [])).map((error) => error.message);
    console.log(JSON.stringify({ name, code, message, causes }));
  }
`;

// What a preload makes of this process.
function elsewhere(system) {
  const define = (name, value) => `Object.defineProperty(process, '${name}', { value: ${value} });`;
  if (system === 'musl') return define('report', '{ getReport: () => ({ header: {} }) }') + GONE;
  return system === 'ppc64' ? define('arch', '"ppc64"') : define('platform', JSON.stringify(system));
}

// A library for another C library cannot be loaded.
const GONE = "process.dlopen = () => { throw new Error('Error loading shared library ld-linux-x86-64.so.2'); };";

// A program that uses what cluster-rs adds, in both roles.
const SERVE = `
  const cluster = require('cluster-rs');
  const { once } = require('node:events');
  const net = require('node:net');
  const fs = require('node:fs');
  fs.writeFileSync('worker.cjs', \`
    const cluster = require('cluster-rs');
    cluster.worker.setLoad(1);
    const net = require('node:net').createServer((socket) => socket.end(cluster.engine + ' ' + cluster.worker.slot));
    net.listen(0, '127.0.0.1');
  \`);
  (async () => {
    cluster.schedulingPolicy = cluster.SCHED_SOURCE_HASH;
    cluster.setupPrimary({ exec: 'worker.cjs', mechanism: 'kernel', listen: ['127.0.0.1:0'], listenMax: 3 });
    const workers = [cluster.fork(), cluster.fork()];
    const [[{ port }]] = await Promise.all(workers.map((worker) => once(worker, 'listening')));
    const answers = new Set();
    while (answers.size < 2) {
      const [answer] = await once(net.connect(port, '127.0.0.1').setEncoding('utf8'), 'data');
      answers.add(answer);
    }
    const counted = cluster.stats().workers.map(({ slot }) => slot);
    console.log(JSON.stringify({ engine: cluster.engine, answers: [...answers].sort(), slots: workers.map(({ slot }) => slot), counted }));
    cluster.disconnect();
  })();
`;

function load(env) {
  const { status, signal, stdout, stderr } = node(['-e', TELL], env);
  assert.deepEqual({ status, signal }, { status: 0, signal: null }, stderr);
  return JSON.parse(stdout);
}

function refused(env, ...patterns) {
  const { name: type, code, message, causes } = load(env);
  assert.deepEqual({ type, code }, { type: 'Error', code: 'ERR_CLUSTER_RS_ADDON' });
  assert.ok(!message.includes('\n'), message);
  assert.ok(message.includes(`linux-${process.arch}`) && message.includes(process.version), message);
  for (const pattern of patterns) assert.match(message, pattern);
  return causes;
}

// The installed addon, changed.
function spoiled(change) {
  const bytes = fs.readFileSync(path.join(home, file));
  fs.writeFileSync(path.join(home, file), change(bytes) ?? bytes);
}

const removed = () => fs.rmSync(path.join(home, file));
const REINSTALL = /install again, on the machine where the program runs/;

const cases = {
  'load-installed'() {
    assert.deepEqual(load(), { loaded: true });
  },
  'load-once'() {
    const program = `const { load } = require('./node_modules/cluster-rs/lib/addon.cjs'); load() === load()`;
    const { stdout, stderr } = node(['-p', program]);
    assert.equal(stdout, 'true\n', stderr);
  },
  'load-a-named-file'() {
    fs.renameSync(path.join(home, file), path.join(scratch, 'elsewhere.bin'));
    assert.deepEqual(load({ CLUSTER_RS_ADDON: 'elsewhere.bin' }), { loaded: true });
  },
  'load-a-named-file-that-is-missing'() {
    const told = /: \/nonexistent\.node is not there; correct or unset CLUSTER_RS_ADDON$/;
    const causes = refused({ CLUSTER_RS_ADDON: '/nonexistent.node' }, told);
    assert.equal(causes.length, 1);
    assert.match(causes[0], /ENOENT/);
    refused({ CLUSTER_RS_ADDON: '/dev/null/addon.node' }, /is not there/);
  },
  'load-a-directory'() {
    refused({ CLUSTER_RS_ADDON: scratch }, /is not a file; correct or unset/);
  },
  'load-no-library'() {
    fs.writeFileSync(path.join(home, file), 'module.exports = {};\n'.repeat(10));
    refused({}, /is damaged, or built for another system; /, REINSTALL);
    fs.writeFileSync(path.join(home, file), '');
    refused({}, /is damaged, or built for another system/);
  },
  // To map such a file would end the process.
  'load-what-was-cut-short'() {
    spoiled((bytes) => bytes.subarray(0, bytes.length / 2));
    refused({}, /is damaged: it was cut short; /, REINSTALL);
  },
  'load-for-another-processor'() {
    spoiled((bytes) => void bytes.writeUInt16LE(process.arch === 'arm64' ? 62 : 183, 18));
    refused({}, /is built for another processor; /, REINSTALL);
    spoiled((bytes) => void bytes.writeUInt8(1, 4));
    refused({}, /is built for another processor; /);
  },
  'load-what-the-system-refuses'() {
    spoiled((bytes) => void bytes.writeUInt16LE(2, 16)); // a program, not a library
    const causes = refused({}, /cannot be loaded \(.*\); /, REINSTALL);
    assert.equal(causes.length, 4, 'what every try said is kept');
  },
  'load-on-an-older-system'() {
    fs.writeFileSync(path.join(scratch, 'old.cjs'), `process.dlopen = () => {
      throw new Error("/lib/libc.so.6: version \`GLIBC_2.34' not found"); };`);
    const { stdout } = node(['--require', './old.cjs', '-e', TELL]);
    assert.match(JSON.parse(stdout).message, /GLIBC_2\.34.*; the C library here is older than the addon needs: /);
  },
  'load-a-library-that-is-no-addon'() {
    const libc = fs.readFileSync('/proc/self/maps', 'utf8').match(/\/\S*libc\.so\.6/)[0];
    refused({ CLUSTER_RS_ADDON: libc }, /cannot be loaded \(.*\); correct or unset/);
  },
  'load-nothing-installed'() {
    removed();
    const files = new RegExp(`${file} is not there, .*-musl.node is not there, `);
    const packages = new RegExp(`cluster-rs-linux-${process.arch}-gnu is not installed, .*-musl is not installed; `);
    refused({}, files, packages, /install the package cluster-rs-linux-.*lock file.*npm\/cli #4828/);
  },
  'load-nothing-built'() {
    removed();
    fs.writeFileSync(path.join(home, 'Cargo.toml'), '');
    refused({}, /is not there.*; run "npm install" in node-addon \(it needs cargo\)$/);
  },
  'load-the-platform-package'() {
    const platform = path.join(modules, `cluster-rs-linux-${process.arch}-gnu`);
    fs.mkdirSync(platform);
    fs.renameSync(path.join(home, file), path.join(platform, file));
    fs.writeFileSync(path.join(platform, 'package.json'), JSON.stringify({ main: file }));
    assert.deepEqual(load(), { loaded: true });
    fs.rmSync(path.join(platform, file));
    refused({}, /-gnu is not installed/);
  },
  'load-falls-through-what-is-broken'() {
    const platform = path.join(modules, `cluster-rs-linux-${process.arch}-gnu`);
    fs.mkdirSync(platform);
    fs.copyFileSync(path.join(home, file), path.join(platform, file));
    fs.writeFileSync(path.join(platform, 'package.json'), JSON.stringify({ main: file }));
    spoiled((bytes) => bytes.subarray(0, 100));
    assert.deepEqual(load(), { loaded: true });
  },
  // Where this system has no addon, node:cluster takes its place, so that a team's laptops run the same program.
  'load-where-the-addon-cannot-be'() {
    const told = [['darwin', 'it is built for Linux only'], ['musl', `it is not built for linux-${process.arch} with musl`],
      ['ppc64', 'it is not built for linux-ppc64']];
    fs.writeFileSync(path.join(scratch, 'serve.cjs'), SERVE);
    for (const name of ['command-line.cjs', 'run.cjs', 'server.cjs']) fs.cpSync(path.join(__dirname, 'programs', name), path.join(scratch, name));
    fs.mkdirSync(path.join(modules, '.bin'));
    fs.symlinkSync('../cluster-rs/bin/cluster-rs.cjs', path.join(modules, '.bin', 'cluster-rs'));
    fs.chmodSync(path.join(home, 'bin', 'cluster-rs.cjs'), 0o755);
    for (const [system, why] of told) {
      fs.writeFileSync(path.join(scratch, 'elsewhere.cjs'), elsewhere(system));
      const { status, stdout, stderr } = node(['--require', './elsewhere.cjs', 'serve.cjs']);
      assert.equal(status, 0, stderr);
      assert.deepEqual(JSON.parse(stdout), { engine: 'node', answers: ['node 0', 'node 1'], slots: [0, 1], counted: [0, 1] });
      assert.equal(stderr.match(/ClusterWarning/g).length, 1, stderr);
      assert.ok(stderr.includes(`[ERR_CLUSTER_RS_ADDON] ClusterWarning: cluster-rs has no native addon for `) && stderr.includes(why), stderr);
      const line = node(['command-line.cjs'], { NODE_OPTIONS: `--require ${scratch}/elsewhere.cjs` });
      assert.equal(line.status, 0, line.stderr);
      const strict = node(['--require', './elsewhere.cjs', '-e', TELL], { CLUSTER_RS_STRICT: '1' });
      assert.equal(JSON.parse(strict.stdout).code, 'ERR_CLUSTER_RS_ADDON', strict.stderr);
      const named = node(['--require', './elsewhere.cjs', '-e', TELL], { CLUSTER_RS_ADDON: '/nonexistent' });
      assert.match(JSON.parse(named.stdout).message, /correct or unset CLUSTER_RS_ADDON/);
    }
  },
  'load-in-a-bundle'() {
    for (const gone of ['register.cjs', 'lib/addon.cjs']) {
      const bundle = path.join(scratch, 'bundle.cjs');
      // As a bundler leaves it: the text without the file.
      fs.writeFileSync(bundle, `${fs.readFileSync(path.join(home, 'lib/addon.cjs'), 'utf8')};module.exports.load();`);
      const { status, stderr } = node([bundle]);
      assert.equal(status, 1, gone);
      assert.match(stderr, /is in a bundle or a single executable.*mark it as external.*--external:cluster-rs/);
    }
  },
  'load-under-another-runtime'() {
    for (const [key, runtime] of [['bun', 'Bun'], ['deno', 'Deno']]) {
      const { stdout } = node(['-e', `Object.defineProperty(process.versions, '${key}', { value: '9.8' });${TELL}`]);
      const { code, message } = JSON.parse(stdout);
      assert.equal(code, 'ERR_CLUSTER_RS_ADDON');
      assert.match(message, new RegExp(`^cluster-rs does not run under ${runtime} 9\\.8: run the program with Node, or use node:cluster$`));
    }
  },
  'register-says-what-is-wrong'() {
    removed();
    for (const preload of ['--require', '--import']) {
      const { status, stdout, stderr } = node([preload, 'cluster-rs/register', '-p', '"reached"']);
      assert.equal(status, 1);
      assert.equal(stdout, '');
      assert.match(stderr, /ERR_CLUSTER_RS_ADDON/);
    }
  },
  'register-leaves-threads-alone'() {
    const program = `
      const { Worker } = require('node:worker_threads');
      const execArgv = [process.argv[1], 'cluster-rs/register'];
      const options = { eval: true, env: { CLUSTER_RS_ADDON: '/nonexistent' }, execArgv };
      new Worker('console.log(typeof require("node:cluster").stats)', options);
    `;
    for (const preload of ['--require', '--import']) {
      const { status, stdout, stderr } = node(['-e', program, '--', preload]);
      assert.deepEqual({ status, stdout }, { status: 0, stdout: 'undefined\n' }, stderr);
    }
  },
};

if (name === '--list') {
  console.log(Object.keys(cases).join('\n'));
} else {
  fs.rmSync(scratch, { recursive: true, force: true });
  fs.cpSync(source, home, { recursive: true });
  cases[name]();
}
