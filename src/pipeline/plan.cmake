# What a job will take; part of narrow_pipeline.
target_sources(narrow_pipeline PRIVATE job_work.cc machine_rates.cc plan.cc plan_phases.cc plan_text.cc run_plan.cc)

narrow_test(memory_plan_test SOURCES memory_plan_test.cc LIBRARIES narrow_pipeline narrow_synthesis)
narrow_test(plan_test SOURCES plan_test.cc LIBRARIES narrow_pipeline)
