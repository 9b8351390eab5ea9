'use strict';
// The program in docs/interop.md does what the page says.

const test = require('node:test');
const assert = require('node:assert/strict');
const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { deadline, environment, isAlive, processesOf, request, takeTurns, until } = require('./support.cjs');

const ROOT = path.join(__dirname, '../..');

test('mixed.c: C, C from the header alone and Node take turns, are replaced, and end at SIGTERM', async () => {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-interop-')));
  const inFolder = (name) => path.join(folder, name);
  const page = fs.readFileSync(path.join(ROOT, 'docs/interop.md'), 'utf8');
  fs.writeFileSync(inFolder('mixed.c'), page.match(/```c\n([^]*?)```/)[1]);
  const library = process.env.INTEROP_LIBRARY;
  const cc = (source, name, ...flags) => execFileSync(process.env.CC || 'cc', ['-Wall', '-Werror', `-I${ROOT}/include`,
    '-o', inFolder(name), source, ...flags]);
  const link = [`-L${library}`, `-Wl,-rpath,${library}`, '-lcluster'];
  cc(inFolder('mixed.c'), 'mixed', ...link);
  cc(path.join(ROOT, 'examples/c/http_hello.c'), 'http_hello', ...link);
  cc(path.join(ROOT, 'examples/c/header_only.c'), 'header_only');
  fs.copyFileSync(path.join(ROOT, 'examples/node/server.js'), inFolder('server.js'));
  fs.mkdirSync(inFolder('node_modules'));
  fs.symlinkSync(path.join(ROOT, 'node-addon'), inFolder('node_modules/cluster-rs'));

  const env = environment({ INTEROP: folder, PATH: `${path.dirname(process.execPath)}:${process.env.PATH}` });
  const stdio = ['ignore', 'pipe', 'inherit'];
  const primary = spawn(inFolder('mixed'), ['0'], { cwd: folder, env, stdio, detached: true });
  const ended = new Promise((resolve) => primary.once('exit', (code, signal) => resolve([code, signal])));
  try {
    let output = '';
    primary.stdout.setEncoding('utf8').on('data', (data) => { output += data; });
    const listening = () => [...output.matchAll(/^worker (\d+) \(pid (\d+)\) listens on port (\d+)$/gm)];
    await until(() => listening().length === 3, 'three workers that listen');
    const [, , , port] = listening()[0];
    assert.ok(listening().every((one) => one[3] === port));

    const language = ({ body }) => (
      /^hello from worker \d+, slot/.test(body) ? 'c' : /^hello from process/.test(body) ? 'header' : 'node');
    const ask = async () => language(await request(Number(port), { path: '/some/path' }));
    const all = ['c', 'header', 'node'];
    await takeTurns(ask, all, 12);

    // Replaced by its like, each of them.
    const pids = listening().map((one) => Number(one[2]));
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await until(() => listening().length === 6, 'three more that listen');
    await takeTurns(ask, all, 6);

    primary.kill('SIGTERM');
    assert.deepEqual(await deadline(ended, 'the end'), [0, null]);
    assert.ok(!listening().some((one) => isAlive(Number(one[2]))));
    await until(() => processesOf(`INTEROP=${folder}`, primary.pid).length === 0, 'the end of all processes');
  } finally {
    for (const pid of processesOf(`INTEROP=${folder}`, primary.pid)) process.kill(pid, 'SIGKILL');
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
