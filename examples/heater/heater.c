/* One hour of a laboratory oven under a PID controller: warm-up to the setpoint, and a door that opens at half time.
 *
 *   heater --kp 60 --ki 0.3 --kd 900 --setpoint 80 --seed 1 --out hour.csv
 *
 * writes one row a second: t (s), temperature (deg C, of the chamber), power (W). Exit code 7: the thermal cut-out tripped,
 * as it does for gains that let the chamber overshoot by 15 K. The seed draws the room, the load on the shelves and the
 * noise of the sensor. No libm and (see Makefile) no fused arithmetic: the same bytes wherever it is built. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double HOUR = 3600, STEP = 0.25;            /* s */
static const double POWER = 1500, ELEMENT = 900;         /* W; J/K of the heating element */
static const double CHAMBER = 4200, COUPLING = 14;       /* J/K of walls and air; W/K from element to chamber */
static const double LOSS = 6.5, LOSS_OPEN = 45;          /* W/K from chamber to room, door closed and open */
static const double OPENS = 1800, CLOSES = 1830;         /* s */
static const double SENSOR_LAG = 12, NOISE = 0.04;       /* s; K, standard deviation */
static const double CUT_OUT = 15;                        /* K above the setpoint */

static unsigned long long state;

static double uniform(void) { /* xorshift64*, in [0, 1) */
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (double)((state * 2685821657736338717ULL) >> 11) / 9007199254740992.0;
}

static double normal(void) { /* the sum of twelve uniform numbers, less its mean: standard deviation 1 */
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += uniform();
    return sum;
}

static const char *argument(int count, char **words, const char *name) {
    for (int i = 1; i + 1 < count; i += 2)
        if (strncmp(words[i], "--", 2) == 0 && strcmp(words[i] + 2, name) == 0) return words[i + 1];
    fprintf(stderr, "heater: --%s is missing\n", name);
    exit(2);
}

static double clamp(double value, double low, double high) { return value < low ? low : value > high ? high : value; }

int main(int count, char **words) {
    const double kp = atof(argument(count, words, "kp"));             /* W/K */
    const double ki = atof(argument(count, words, "ki"));             /* W/(K s) */
    const double kd = atof(argument(count, words, "kd"));             /* W s/K */
    const double setpoint = atof(argument(count, words, "setpoint")); /* deg C */
    state = 0x9E3779B97F4A7C15ULL * (1 + strtoull(argument(count, words, "seed"), NULL, 10));
    FILE *out = fopen(argument(count, words, "out"), "w");
    if (out == NULL) return perror("heater"), 2;

    for (int i = 0; i < 8; i++) uniform(); /* let near seeds part */
    const double room = 18 + 8 * uniform();                      /* deg C */
    const double load = CHAMBER + 4186 * (0.5 + 0.5 * uniform()); /* J/K: with half a litre to a litre of samples */
    double element = room, chamber = room, sensor = room, last = room, integral = 0, power = 0;
    fprintf(out, "t,temperature,power\n");
    for (int tick = 0; tick * STEP < HOUR; tick++) {
        const double t = tick * STEP;
        if (tick % 4 == 0) { /* the controller looks once a second; its integral never asks for more than there is */
            const double seen = sensor + NOISE * normal(), error = setpoint - seen;
            integral = clamp(integral + ki * error, 0, POWER);
            power = clamp(kp * error + integral - kd * (seen - last), 0, POWER);
            last = seen;
            fprintf(out, "%.0f,%.3f,%.1f\n", t, chamber, power);
        }
        const double flow = COUPLING * (element - chamber);
        const double loss = (t >= OPENS && t < CLOSES ? LOSS_OPEN : LOSS) * (chamber - room);
        element += STEP * (power - flow) / ELEMENT;
        chamber += STEP * (flow - loss) / load;
        sensor += STEP * (chamber - sensor) / SENSOR_LAG;
        if (chamber > setpoint + CUT_OUT) {
            fprintf(stderr, "heater: thermal cut-out at %.1f deg C after %.0f s\n", chamber, t);
            return 7;
        }
    }
    return fclose(out) == 0 ? 0 : 2;
}
