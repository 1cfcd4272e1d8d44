#include "quantization/head_basis/value_basis.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <cmath>

namespace narrow {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr double kSmallestDirection = 1e-3;  // of the mean

Matrix ToMatrix(MatrixView<const double> view) {
  Matrix matrix(view.rows, view.columns);
  for (int64_t row = 0; row < view.rows; ++row) {
    for (int64_t column = 0; column < view.columns; ++column) {
      matrix(row, column) = view.Row(row)[column];
    }
  }
  return matrix;
}

Matrix ToMatrix(const AlignedBuffer<float>& values, int64_t n) {
  return Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(values.data(), n, n)
      .cast<double>();
}

AlignedBuffer<float> ToBuffer(const Matrix& matrix) {
  AlignedBuffer<float> values(matrix.size());
  for (int64_t i = 0; i < matrix.size(); ++i) values[i] = static_cast<float>(matrix.data()[i]);
  return values;
}

// Symmetric positive semidefinite becomes definite.
Matrix WithoutSmallDirections(Matrix matrix) {
  const double mean = matrix.trace() / static_cast<double>(matrix.rows());
  matrix.diagonal().array() += mean > 0.0 ? kSmallestDirection * mean : 1.0;
  return matrix;
}

// Orthogonal, every element 1 / sqrt(n) in magnitude.
Matrix Hadamard(int64_t n) {
  Matrix matrix(n, n);
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      const bool negative = __builtin_parityll(static_cast<uint64_t>(row & column)) != 0;
      matrix(row, column) = (negative ? -1.0 : 1.0) / std::sqrt(static_cast<double>(n));
    }
  }
  return matrix;
}

}  // namespace

HeadMatrices BestValueBasis(MatrixView<const double> moments, MatrixView<const double> weights) {
  const int64_t n = moments.rows;
  NARROW_CHECK((n & (n - 1)) == 0 && moments.columns == n && weights.rows == n &&
               weights.columns == n);
  const Matrix c = WithoutSmallDirections(ToMatrix(moments));
  const Matrix g = WithoutSmallDirections(ToMatrix(weights));
  // C = L L^T and L^T G L = U E U^T: with B = E^1/4 U^T L^-1, B C B^T = B^-T G B^-1 = E^1/2.
  const Matrix l = c.llt().matrixL();
  const Eigen::SelfAdjointEigenSolver<Matrix> eigen(l.transpose() * g * l);
  const Eigen::VectorXd diagonal = eigen.eigenvalues().cwiseSqrt();
  const Eigen::VectorXd root = diagonal.cwiseSqrt();
  const double size = std::sqrt(c.trace() / diagonal.sum());
  const Matrix& u = eigen.eigenvectors();
  const Matrix l_inverse = l.triangularView<Eigen::Lower>().solve(Matrix::Identity(n, n));
  const Matrix hadamard = Hadamard(n);
  const Matrix matrix = size * (hadamard * root.asDiagonal() * u.transpose() * l_inverse);
  const Matrix inverse = (l * u * root.cwiseInverse().asDiagonal() * hadamard.transpose()) / size;
  return {ToBuffer(matrix), ToBuffer(inverse)};
}

double ValueBasisError(const HeadMatrices& basis, MatrixView<const double> moments,
                       MatrixView<const double> weights) {
  const Matrix m = ToMatrix(basis.matrix, moments.rows);
  const Matrix inverse = ToMatrix(basis.inverse, moments.rows);
  const Matrix c = m * ToMatrix(moments) * m.transpose();
  const Matrix g = inverse.transpose() * ToMatrix(weights) * inverse;
  return c.diagonal().dot(g.diagonal());
}

}  // namespace narrow
