'use strict';

const { Queue } = require('./queue');

console.log(new Queue().put('first').put('second').take());
