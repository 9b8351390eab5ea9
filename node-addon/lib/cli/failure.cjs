'use strict';

/** Something that ends the program with one line on stderr: exit code 2 for a wrong command line, 1 otherwise. */
class Failure extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The command line was wrong. */
class UsageError extends Failure {
  constructor(message) {
    super(`${message} (cluster-rs --help shows what there is)`, 2);
  }
}

module.exports = { Failure, UsageError };
