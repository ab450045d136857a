/** Times of jobs: microseconds since 1970, and what they look like in replies. */

const MICROSECONDS_PER_SECOND = 1_000_000;
const SECONDS_PER_DAY = 86_400;
/** Days from March 1 of the year 0 to January 1, 1970: years that begin in March end with the leap day. */
const EPOCH_DAYS = 719_468;
const DAYS_PER_ERA = 146_097;

/** `2019-01-23T18:36:17.951228Z`. */
export function formatMicroseconds(time: number): string {
  const fraction = pad(time % MICROSECONDS_PER_SECOND, 6);
  return formatSeconds(Math.floor(time / MICROSECONDS_PER_SECOND)).replace('Z', `.${fraction}Z`);
}

/** `2019-01-23T18:36:17Z`, of seconds since 1970. */
export function formatSeconds(time: number): string {
  const { year, month, day } = dateOf(Math.floor(time / SECONDS_PER_DAY));
  const second = time % SECONDS_PER_DAY;
  const clock = [Math.floor(second / 3600), Math.floor(second / 60) % 60, second % 60];
  const date = `${pad(year, 4)}-${pad(month, 2)}-${pad(day, 2)}`;
  return `${date}T${clock.map((part) => pad(part, 2)).join(':')}Z`;
}

/** The day of the Gregorian calendar that is so many days after the first of 1970. */
function dateOf(days: number): { year: number; month: number; day: number } {
  const sinceMarch = days + EPOCH_DAYS;
  const era = Math.floor(sinceMarch / DAYS_PER_ERA);
  const dayOfEra = sinceMarch - era * DAYS_PER_ERA;
  const leaps =
    Math.floor(dayOfEra / 1460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leaps) / 365);
  const before = 365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100);
  const dayOfYear = dayOfEra - before;
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1,
  };
}

function pad(value: number, length: number): string {
  return String(value).padStart(length, '0');
}
