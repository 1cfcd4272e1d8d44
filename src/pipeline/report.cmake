# What the user learns of a run: the report's contents and the warnings; part of narrow_pipeline.
target_sources(narrow_pipeline PRIVATE guards.cc)

narrow_test(pipeline_report_test SOURCES guards_test.cc run_report_test.cc LIBRARIES narrow_pipeline)
