'use strict';

// A primary in a pid namespace of its own: starts one worker for each case, and writes what became of it, and every process
// that is neither its own nor one of its workers.

const fs = require('node:fs');
const path = require('node:path');
const cluster = require(process.env.CLUSTER_MODULE);

const AT_A_TIME = 4;
const LIMIT = 8000;
// So many processes too many are enough: the namespace ends with this one.
const ENOUGH = 40;

const workers = new Set();
// Workers that are package runners: the program is a child of theirs.
const runners = new Set();
const surplus = new Map();
const node = process.execPath;

function look() {
  for (const name of fs.readdirSync('/proc')) {
    const pid = Number(name);
    // The first process is the shell that made the namespace ready.
    if (!(pid > 1) || pid === process.pid || workers.has(pid) || surplus.has(pid)) continue;
    try {
      const [, parent] = /\) \S (\d+)/.exec(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
      if (runners.has(Number(parent))) continue;
      surplus.set(pid, `${parent}: ${fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ')}`);
    } catch {
      // It ended meanwhile.
    }
    if (surplus.size > ENOUGH) tell([]);
  }
}

function tell(outcomes) {
  fs.writeSync(1, JSON.stringify({ outcomes, surplus: [...surplus.values()] }));
  process.exit(0);
}

function stop(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended meanwhile.
  }
}

const forked = ({ said }) => said.some((one) => one.forked);

function start({ name, join, script = 'app.cjs' }) {
  cluster.setupPrimary({ exec: path.join(__dirname, script) });
  process.execPath = process.env.SPOIL;
  const worker = cluster.fork({ JOIN: join, NODE: node });
  process.execPath = node;
  const { pid } = worker.process;
  workers.add(pid);
  if (script === 'npm.cjs') runners.add(pid);
  const outcome = { name, said: [], stderr: '' };
  return new Promise((resolve) => {
    let text = '';
    const end = () => {
    worker.process.kill('SIGKILL');
    for (const one of surplus.keys()) stop(one);
  };
    const timer = setTimeout(() => {
      outcome.silent = true;
      end();
    }, LIMIT);
    worker.process.stdout.setEncoding('utf8').on('data', (data) => {
      const lines = (text + data).split('\n');
      text = lines.pop();
      outcome.said.push(...lines.map((line) => JSON.parse(line)));
      look();
      // What it has started is seen in any case; nothing else is expected of it.
      if (forked(outcome)) setTimeout(end, 1000);
      else if (!runners.has(pid) && outcome.said.some(({ role }) => role)) end();
    });
    worker.process.stderr.setEncoding('utf8').on('data', (data) => { outcome.stderr += data; });
    worker.process.on('close', (code, signal) => {
      clearTimeout(timer);
      look();
      workers.delete(pid);
      resolve({ ...outcome, code, signal });
    });
  });
}

async function main() {
  const cases = JSON.parse(process.env.CASES);
  const outcomes = [];
  cluster.setupPrimary({ args: [], silent: true });
  const timer = setInterval(look, 20);
  await Promise.all(Array.from({ length: AT_A_TIME }, async () => {
    for (let one = cases.shift(); one; one = cases.shift()) outcomes.push(await start(one));
  }));
  clearInterval(timer);
  look();
  tell(outcomes);
}

main();
