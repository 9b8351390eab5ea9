'use strict';
// Loggers, readers of settings and compilers under the command line: what docs/node.md says of each of them.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { ours, request, until } = require('../support/index.cjs');
const { cli } = require('../cli/fixtures/run.cjs');

// The programs stand in a folder of their own, from which nothing is found.
const load = (name) => `require(${JSON.stringify(require.resolve(name))})`;
const command = (name) => path.join(__dirname, '..', 'node_modules', '.bin', name);
const SERVE = `require('node:http').createServer((request, response) => {
  log(process.env.NODE_APP_INSTANCE);
  response.end(process.env.NODE_APP_INSTANCE);
}).listen(0, '127.0.0.1');`;

/** Asks until each of two workers has answered. */
async function askBoth(port) {
  const seen = new Set();
  await until(async () => seen.add((await request(port)).body).size === 2, 'an answer of each worker');
}

/** The lines of a file; none while it is not there. */
function linesOf(directory, name) {
  try {
    return fs.readFileSync(path.join(directory, name), 'utf8').split('\n').slice(0, -1);
  } catch {
    return [];
  }
}

const LOGGERS = [
  ['pino: each worker writes whole lines, and what its transport holds is written when it stops', `const pino = ${load('pino')};
    const transport = pino.transport({ target: 'pino/file', options: { destination: 'log.' + process.env.NODE_APP_INSTANCE } });
    const [own, out] = [pino(transport), pino()];
    const log = (instance) => { own.info({ instance }); out.info({ instance }); };`],
  ['winston: each worker has its own file, and what it holds is written when it stops', `const winston = ${load('winston')};
    const file = new winston.transports.File({ filename: 'log.' + process.env.NODE_APP_INSTANCE });
    const logger = winston.createLogger({ transports: [file, new winston.transports.Console()] });
    const log = (instance) => logger.info('served', { instance });`],
];
for (const [name, logger] of LOGGERS) {
  test(name, ours, async () => {
    const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': `${logger}\n${SERVE}` } }, async (started) => {
      const port = await started.port();
      await started.wait(/2 workers: pids/);
      await askBoth(port);
      started.kill();
      await started.closed;
      for (const instance of ['0', '1']) {
        const found = linesOf(started.directory, `log.${instance}`).map((line) => JSON.parse(line).instance);
        assert.ok(found.length > 0 && found.every((one) => one === instance), `${instance}: ${found}`);
        assert.match(started.stdout, new RegExp(`^\\[${instance}\\] \\{.*"instance":"${instance}".*\\}$`, 'm'));
      }
    });
    assert.equal(run.code, 0);
  });
}

const SAY = `require('node:http').createServer((request, response) => response.end(process.env.WORD)).listen(0, '127.0.0.1');`;
const SETTINGS = { '.env': 'WORD=of the file\n', 'app.js': `${load('dotenv')}.config({ quiet: true });\n${SAY}`, 'say.js': SAY };
const RUNNERS = [
  ['dotenv in the program', ['app.js']],
  ['dotenv as a preload', ['--node-options', `-r ${require.resolve('dotenv/config')}`, 'say.js']],
  ['dotenv in front', [command('dotenv'), '--', 'run', '--quiet', '--', 'node', 'say.js']],
  ['cross-env in front', [command('cross-env'), '--', 'WORD=of the file', 'node', 'say.js']],
];
for (const [name, args] of RUNNERS) {
  test(`${name}: both workers have its variables`, ours, async () => {
    const run = await cli({ args: ['-i', '2', ...args], files: SETTINGS }, async (started) => {
      const port = await started.port();
      await started.wait(/2 workers/);
      for (let i = 0; i < 4; i++) assert.equal((await request(port)).body, 'of the file');
      started.kill();
    });
    assert.equal(run.code, 0);
    assert.deepEqual(run.said(), []);
  });
}

const TYPED = `import { createServer } from 'node:http';
  enum Word { Served = 'with types' }
  createServer((request, response) => response.end(Word.Served)).listen(0, '127.0.0.1');`;
const COMPILERS = [
  ['tsx as a loader', ['--node-options', `--import ${require.resolve('tsx')}`, 'app.ts']],
  ['tsx in front', [command('tsx'), '--', 'app.ts']],
];
for (const [name, args] of COMPILERS) {
  test(`${name}: both workers run TypeScript, and a reload replaces them`, ours, async () => {
    const run = await cli({ args: ['-i', '2', ...args], files: { 'app.ts': TYPED, 'package.json': '{"type":"module"}' } }, async (started) => {
      const port = await started.port();
      await started.wait(/2 workers/);
      assert.equal((await request(port)).body, 'with types');
      started.kill('SIGHUP');
      await started.wait(/reload: done/i);
      assert.equal((await request(port)).body, 'with types');
      started.kill();
    });
    assert.equal(run.code, 0);
    assert.deepEqual(run.said(), []);
  });
}
