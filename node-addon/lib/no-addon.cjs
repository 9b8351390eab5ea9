'use strict';

// Why there is no native addon (see addon.cjs), and what to do about it.

const fs = require('node:fs');
const path = require('node:path');

const { arch, platform, version } = process;
const home = path.join(__dirname, '..');

function isMusl() {
  const { report } = process;
  const { excludeNetwork } = report;
  // With the network it would look names up.
  report.excludeNetwork = true;
  const { glibcVersionRuntime } = report.getReport().header;
  report.excludeNetwork = excludeNetwork;
  return glibcVersionRuntime === undefined;
}

/** Whether this system is one that has an addon, so that it is a fault if it cannot be loaded. */
function isDue(isBundled) {
  if (process.env.CLUSTER_RS_ADDON || process.env.CLUSTER_RS_STRICT === '1' || isBundled) return true;
  if (platform !== 'linux') return false;
  const libc = isMusl() ? 'musl' : 'gnu';
  const { optionalDependencies } = require('../package.json');
  if (`cluster-rs-linux-${arch}-${libc}` in Object(optionalDependencies)) return true;
  return libc === 'gnu' && (arch === 'x64' || isCheckout());
}

function isCheckout() {
  return fs.existsSync(path.join(home, 'Cargo.toml'));
}

function advice(broken, reasons, isBundled) {
  if (process.env.CLUSTER_RS_ADDON) return 'correct or unset CLUSTER_RS_ADDON';
  if (platform !== 'linux') return 'it is built for Linux only';
  if (!isDue(isBundled)) return `it is not built for ${platform}-${arch}${isMusl() ? ' with musl' : ''}`;
  if (isCheckout()) return 'run "npm install" in node-addon (it needs cargo)';
  if (reasons.includes('GLIBC_')) return 'the C library here is older than the addon needs: use a newer system, or build it here in a checkout';
  if (broken) return 'remove node_modules and install again, on the machine where the program runs';
  return `install the package cluster-rs-${platform}-${arch}-gnu; a lock file that was made on another platform ` +
    'may lack it: remove it and node_modules, and install again (npm/cli #4828)';
}

/** The error about tries that failed, each { what, reason, error, found }. */
function failure(failed, code, isBundled) {
  // A file that is there and does not work explains more than those that are not there.
  const broken = failed.filter((attempt) => attempt.found);
  const told = broken.length > 0 ? broken : isDue(isBundled) ? failed : [];
  const reasons = told.map(({ what, reason }) => `${what} ${reason}`).join(', ');
  const here = `${platform}-${arch}, Node ${version}`;
  const message = `cluster-rs has no native addon for ${here}: ${reasons ? `${reasons}; ` : ''}${advice(broken.length > 0, reasons, isBundled)}`;
  const causes = failed.map(({ what, reason, error }) => error ?? new Error(`${what} ${reason}`));
  const cause = causes.length === 1 ? causes[0] : new AggregateError(causes, 'every place was tried');
  return Object.assign(new Error(message, { cause }), { code });
}

module.exports = { failure, isDue };
