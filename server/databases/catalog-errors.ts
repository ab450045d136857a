/** What is said of databases that are not there, or are. */
import { DivanError } from '../../engine/errors.js';

export function missing(): DivanError {
  return new DivanError('NOT_FOUND', 'Database does not exist.');
}

export function exists(): DivanError {
  return new DivanError('EXISTS', 'The database could not be created, the file already exists.');
}
