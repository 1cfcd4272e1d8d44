# Synthetic checkpoints; part of narrow_pipeline.
target_sources(narrow_pipeline PRIVATE synthesize.cc)
target_link_libraries(narrow_pipeline PUBLIC narrow_synthesis)

narrow_test(head_basis_test SOURCES head_basis_test.cc LIBRARIES narrow_pipeline)
narrow_test(synthesize_test SOURCES synthesize_test.cc LIBRARIES narrow_pipeline)
