"""The facts of one exposure: its jumps and levels, in electrons and with verdicts."""

from services.noise.jump_rates import false_flags, judge_jumps, jump_events, ramp_seconds
from services.noise.jumps import false_positive_percent, live_seconds
from services.noise.measure_exposure import ExposureNoise
from services.noise.products import ExposureNoiseFacts
from services.noise.stability import integration_starts
from shared.messages import ExposureIngested


def exposure_facts(ingested: ExposureIngested, noise: ExposureNoise) -> ExposureNoiseFacts:
    """Return the facts of one exposure."""
    key, member = ingested.key, ingested.member
    jumps, science = noise.jumps, noise.science_jumps
    seconds = ramp_seconds(key)
    return ExposureNoiseFacts(
        configuration=ingested.configuration,
        exposure_id=member.exposure_id,
        jump_flags=jumps.flags,
        jump_flags_error=jumps.flags_error,
        jump_pixels=jumps.pixels,
        jump_pixel_percent=jumps.percent,
        jump_pixel_percent_error=jumps.percent_error,
        science_jump_flags=science.flags,
        science_jump_flags_error=science.flags_error,
        science_jump_pixels=science.pixels,
        science_jump_pixel_percent=science.percent,
        science_jump_pixel_percent_error=science.percent_error,
        jump_events=noise.events,
        flags_per_group=jumps.per_group,
        science_flags_per_group=science.per_group,
        expected_false_positive_percent=false_positive_percent(key.ngroups, member.integrations),
        expected_false_positive_flags=false_flags(key, member.integrations),
        live_seconds=live_seconds(seconds, member.integrations),
        jump_pixels_judged=judge_jumps(science.percent, science.percent_error, key, member.integrations),
        median_dn=noise.levels.detector,
        amplifier_median_dn=noise.levels.amplifiers,
        cds_noise_e=[noise * ingested.gain for noise in noise.cds_noise_dn],
        integration_mjd=integration_starts(member.start_mjd, member.end_mjd, member.integrations),
        seconds_per_integration=seconds,
        simulated=ingested.simulated,
        events=jump_events(noise.found, noise.search, key, ingested.gain, (member.start_mjd, member.end_mjd)),
    )
