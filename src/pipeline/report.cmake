# What the user learns of a run: the report's contents and the warnings; part of narrow_pipeline.
target_sources(narrow_pipeline PRIVATE guards.cc report_errors.cc)

narrow_test(pipeline_report_test SOURCES guards_test.cc run_report_test.cc LIBRARIES narrow_pipeline)
narrow_test(kept_groups_test SOURCES kept_groups_test.cc layer_probe_test.cc LIBRARIES narrow_pipeline)
